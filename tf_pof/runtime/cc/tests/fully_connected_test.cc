// Every kernel against sums that are written out here, in every layout.
#include "fully_connected.h"

#include <math.h>
#include <string.h>

#include "tests/testing.h"

namespace {

enum Pattern { kRandom, kBlocks4x1, kBlocks16x4, kEmptyRows, kFirstRowFull };

struct Case {
  int inputs;
  int outputs;
  int tokens;
  double density;
  Pattern pattern;
  int zero_point;
  int num_scales;  // 0: one for each output
  bool bias;
};

struct Data {
  Case shape;
  int8_t* weights;
  int8_t* input;
  int32_t* bias;
  float* scales;
  int8_t table[256];
  int32_t* sums;  // what must come out, [tokens, outputs]
};

bool Present(const Case& c, Random* random, int n, int k) {
  if (c.pattern == kEmptyRows && n % 3 != 1) return false;
  if (c.pattern == kFirstRowFull) return n == 0;
  if (c.pattern == kBlocks4x1 || c.pattern == kBlocks16x4) {
    const int rows = c.pattern == kBlocks4x1 ? 4 : 16;
    const int columns = c.pattern == kBlocks4x1 ? 1 : 4;
    Random block = {static_cast<uint64_t>(n / rows) * 7919 + k / columns};
    block.Bits();
    return block.Bits() < c.density * 4294967295.0;
  }
  return random->Bits() < c.density * 4294967295.0;
}

Data MakeData(const Case& c) {
  Random random = {static_cast<uint64_t>(c.inputs * 131 + c.outputs)};
  Data d;
  d.shape = c;
  d.weights = Allocate<int8_t>(static_cast<size_t>(c.inputs) * c.outputs);
  d.input = Allocate<int8_t>(static_cast<size_t>(c.inputs) * c.tokens);
  d.bias = Allocate<int32_t>(c.outputs);
  const int scales = c.num_scales == 0 ? c.outputs : c.num_scales;
  d.scales = Allocate<float>(scales);
  for (int n = 0; n < c.outputs; ++n) {
    d.bias[n] = random.Between(-100000, 100000);
    for (int k = 0; k < c.inputs; ++k) {
      const int value = random.Between(-128, 127);
      d.weights[n * c.inputs + k] =
          Present(c, &random, n, k) ? static_cast<int8_t>(value) : 0;
    }
  }
  for (int i = 0; i < c.inputs * c.tokens; ++i) {
    d.input[i] = static_cast<int8_t>(random.Between(-128, 127));
  }
  for (int i = 0; i < scales; ++i) {
    d.scales[i] = static_cast<float>(random.Between(1, 1000)) * 1e-5f;
  }
  for (int i = 0; i < 256; ++i) {
    d.table[i] = static_cast<int8_t>(random.Between(-128, 127));
  }
  d.sums = Allocate<int32_t>(static_cast<size_t>(c.tokens) * c.outputs);
  for (int m = 0; m < c.tokens; ++m) {
    for (int n = 0; n < c.outputs; ++n) {
      int64_t sum = c.bias ? d.bias[n] : 0;
      for (int k = 0; k < c.inputs; ++k) {
        sum += d.weights[n * c.inputs + k] *
               (d.input[m * c.inputs + k] - c.zero_point);
      }
      d.sums[m * c.outputs + n] = static_cast<int32_t>(sum);
    }
  }
  return d;
}

void FreeData(Data* d) {
  free(d->weights);
  free(d->input);
  free(d->bias);
  free(d->scales);
  free(d->sums);
}

constexpr float kInputScale = 0.013f;
constexpr float kOutputScale = 0.37f;
constexpr int kOutputZeroPoint = -7;

float ScaleOf(const Data& d, int n) {
  return kInputScale * d.scales[d.shape.num_scales == 1 ? 0 : n];
}

// LiteRT's requantization, by the C library's rounding.
int8_t Expected(const Data& d, int n, int32_t sum) {
  const float scale = ScaleOf(d, n) / kOutputScale;
  const double value = nearbyintf(static_cast<float>(sum) * scale);
  return static_cast<int8_t>(
      fmin(fmax(value + kOutputZeroPoint, -128.0), 127.0));
}

struct Kind {
  TfPofOutputType type;
  bool table;
  TfPofLayout input;
  TfPofLayout output;
};

void CheckOutput(const Data& d, const Kind& kind, const char* kernel,
                 int threads, const void* rows) {
  const Case& c = d.shape;
  for (int m = 0; m < c.tokens; ++m) {
    for (int n = 0; n < c.outputs; ++n) {
      const int at = m * c.outputs + n;
      const int32_t sum = d.sums[at];
      double actual, expected;
      if (kind.type == kTfPofInt32) {
        actual = static_cast<const int32_t*>(rows)[at];
        expected = sum;
      } else if (kind.type == kTfPofFloat32) {
        actual = static_cast<const float*>(rows)[at];
        expected = static_cast<float>(sum) * ScaleOf(d, n);
      } else {
        actual = static_cast<const int8_t*>(rows)[at];
        expected = Expected(d, n, sum);
        if (kind.table) expected = d.table[static_cast<int>(expected) + 128];
      }
      CHECK(actual == expected,
            "%s, %d inputs, %d outputs, %d tokens, density %g, pattern %d, "
            "type %d, layouts %d %d, %d threads: %g instead of %g at %d, %d",
            kernel, c.inputs, c.outputs, c.tokens, c.density, c.pattern,
            kind.type, kind.input, kind.output, threads, actual, expected, m,
            n);
    }
  }
}

void TestKind(const Data& d, const Kind& kind, const char* kernel,
              TfPofThreadPool* pool) {
  const Case& c = d.shape;
  TfPofFullyConnectedParams params = {};
  params.num_inputs = c.inputs;
  params.num_outputs = c.outputs;
  params.weights = d.weights;
  params.weight_scales = d.scales;
  params.num_weight_scales = c.num_scales == 0 ? c.outputs : c.num_scales;
  params.bias = c.bias ? d.bias : nullptr;
  params.input_scale = kInputScale;
  params.input_zero_point = c.zero_point;
  params.output_scale = kOutputScale;
  params.output_zero_point = kOutputZeroPoint;
  params.output_type = kind.type;
  params.table = kind.table ? d.table : nullptr;
  TfPofFullyConnected* layer;
  CHECK(TfPofFullyConnectedCreate(&params, kernel, c.tokens, pool, &layer) ==
            kTfPofOk,
        "%s", kernel);

  const int threads = TfPofThreadPoolThreads(pool);
  const size_t width = kind.type == kTfPofInt8 ? 1 : 4;
  const size_t count = static_cast<size_t>(c.tokens) * c.outputs;
  auto* rows = Allocate<uint8_t>(count * width);
  auto* panels = Allocate<int8_t>(TfPofPanelBytes(c.tokens, c.outputs));
  auto* input = Allocate<int8_t>(TfPofPanelBytes(c.tokens, c.inputs));
  auto* workspace =
      Allocate<uint8_t>(TfPofFullyConnectedWorkspace(layer, threads));
  memset(rows, 0x55, count * width);
  if (kind.input == kTfPofPanels) {
    TfPofToPanels(d.input, c.tokens, c.inputs, input);
  }
  void* output = kind.output == kTfPofRows ? static_cast<void*>(rows) : panels;
  CHECK(TfPofFullyConnectedRun(
            layer, c.tokens, kind.input == kTfPofRows ? d.input : input,
            kind.input, output, kind.output, workspace, pool) == kTfPofOk,
        "%s", kernel);
  if (kind.output == kTfPofPanels) {
    TfPofFromPanels(panels, c.tokens, c.outputs,
                    reinterpret_cast<int8_t*>(rows));
  }
  CheckOutput(d, kind, TfPofFullyConnectedKernel(layer), threads, rows);
  free(rows);
  free(panels);
  free(input);
  free(workspace);
  TfPofFullyConnectedDelete(layer);
}

constexpr Kind kKinds[] = {
    {kTfPofInt32, false, kTfPofRows, kTfPofRows},
    {kTfPofInt32, false, kTfPofPanels, kTfPofRows},
    {kTfPofFloat32, false, kTfPofRows, kTfPofRows},
    {kTfPofInt8, false, kTfPofRows, kTfPofRows},
    {kTfPofInt8, true, kTfPofRows, kTfPofRows},
    {kTfPofInt8, true, kTfPofRows, kTfPofPanels},
    {kTfPofInt8, false, kTfPofPanels, kTfPofPanels},
    {kTfPofInt8, true, kTfPofPanels, kTfPofRows},
};

void TestCase(const Case& c, const Kind* kinds, int count, int threads) {
  Data d = MakeData(c);
  TfPofThreadPool* pool =
      threads == 1 ? nullptr : TfPofThreadPoolCreate(threads);
  for (int i = 0; i <= TfPofKernelCount(); ++i) {
    // The last is the one that is chosen.
    const char* kernel = TfPofKernelName(i);
    for (int j = 0; j < count; ++j) TestKind(d, kinds[j], kernel, pool);
  }
  TfPofThreadPoolDelete(pool);
  FreeData(&d);
}

constexpr int kAllKinds = sizeof(kKinds) / sizeof(kKinds[0]);

void TestAllTokenCounts() {
  for (int tokens = 1; tokens <= 66; ++tokens) {
    TestCase({67, 37, tokens, 0.2, kRandom, -3, 0, true}, kKinds, 1, 1);
    TestCase({20, 261, tokens, 0.3, kRandom, 5, 0, true}, kKinds + 4, 1, 1);
  }
  TestCase({40, 24, 193, 0.3, kRandom, 5, 0, true}, kKinds, kAllKinds, 1);
}

void TestShapes() {
  const int shapes[][2] = {{1, 1},    {3, 5},     {64, 16},   {65, 17},
                           {130, 63}, {257, 300}, {700, 515}, {1030, 19},
                           {1600, 9}, {2309, 35}};
  for (const auto& shape : shapes) {
    for (int tokens : {1, 2, 5, 19, 70}) {
      TestCase({shape[0], shape[1], tokens, 0.15, kRandom, 11, 0, true}, kKinds,
               1, 1);
    }
    TestCase({shape[0], shape[1], 21, 0.1, kRandom, -128, 1, false}, kKinds,
             kAllKinds, 1);
  }
}

void TestWeights() {
  for (Pattern pattern :
       {kRandom, kBlocks4x1, kBlocks16x4, kEmptyRows, kFirstRowFull}) {
    for (double density : {0.0, 0.02, 0.5, 1.0}) {
      for (int zero_point : {-128, 0, 127}) {
        TestCase({199, 70, 18, density, pattern, zero_point, 0, true}, kKinds,
                 1, 1);
      }
      TestCase({820, 66, 65, density, pattern, 9, 0, true}, kKinds, 1, 1);
    }
  }
}

void TestThreads() {
  for (int threads : {2, 3, 5}) {
    for (int tokens : {1, 17, 64, 150}) {
      TestCase({300, 520, tokens, 0.1, kRandom, 3, 0, true}, kKinds, kAllKinds,
               threads);
      TestCase({1700, 258, tokens, 0.05, kBlocks4x1, 3, 0, true}, kKinds, 1,
               threads);
    }
  }
}

void TestLargeValuesSaturate() {
  // Sums of 32,768 * 127 * 255 overflow float precision, not int32.
  Case c = {8000, 3, 2, 1.0, kRandom, -128, 1, false};
  Data d = MakeData(c);
  for (int i = 0; i < c.inputs * c.outputs; ++i) {
    d.weights[i] = i < c.inputs ? 127 : -127;
  }
  memset(d.input, 127, c.inputs * c.tokens);
  d.scales[0] = 1e30f;
  for (int m = 0; m < c.tokens; ++m) {
    for (int n = 0; n < c.outputs; ++n) {
      d.sums[m * c.outputs + n] = (n == 0 ? 127 : -127) * 255 * c.inputs;
    }
  }
  for (int i = 0; i < TfPofKernelCount(); ++i) {
    for (const Kind& kind : kKinds) {
      TestKind(d, kind, TfPofKernelName(i), nullptr);
    }
  }
  FreeData(&d);
}

void TestInvalidArguments() {
  const int8_t weight = 1;
  const float scale = 1.0f;
  TfPofFullyConnectedParams good = {};
  good.num_inputs = good.num_outputs = good.num_weight_scales = 1;
  good.weights = &weight;
  good.weight_scales = &scale;
  good.input_scale = good.output_scale = 1.0f;
  TfPofFullyConnected* layer;
  auto status = [&](const TfPofFullyConnectedParams& params, const char* kernel,
                    int tokens) {
    const TfPofStatus result =
        TfPofFullyConnectedCreate(&params, kernel, tokens, nullptr, &layer);
    CHECK((layer != nullptr) == (result == kTfPofOk), "%d", result);
    TfPofFullyConnectedDelete(layer);
    return result;
  };
  CHECK(status(good, nullptr, 1) == kTfPofOk, "good");
  CHECK(status(good, "no_such_kernel", 1) == kTfPofNoKernel, "name");
  CHECK(status(good, nullptr, 0) == kTfPofInvalidArgument, "tokens");
  TfPofFullyConnectedParams bad = good;
  bad.num_inputs = 0;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "no inputs");
  bad = good;
  bad.num_inputs = bad.num_outputs = 1 << 17;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "too large");
  bad = good;
  bad.input_zero_point = 128;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "zero point");
  bad = good;
  const float nan_scale = NAN;
  bad.weight_scales = &nan_scale;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "NaN scale");
  bad = good;
  bad.output_scale = 0.0f;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "output scale");
  bad = good;
  bad.num_weight_scales = 2;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "scales");
}

void TestGeluTable() {
  for (int approximate : {0, 1}) {
    int8_t table[256];
    TfPofGeluTable(0.05f, 20, 0.03f, -100, approximate, table);
    for (int i = -128; i <= 127; ++i) {
      const double x = (i - 20) * static_cast<double>(0.05f);
      const double inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
      const double y = approximate ? 0.5 * x * (1 + tanh(inner))
                                   : 0.5 * x * (1 + erf(x / sqrt(2.0)));
      const double exact = y / static_cast<double>(0.03f) - 100;
      const double clamped = fmin(fmax(exact, -128), 127);
      CHECK(fabs(table[i + 128] - clamped) <= 0.5001, "%d", i);
    }
  }
}

}  // namespace

int main() {
  CHECK(TfPofKernelCount() >= 2, "plain C runs everywhere");
  CHECK(TfPofKernelName(TfPofKernelCount()) == nullptr, "end of the table");
  TestInvalidArguments();
  TestGeluTable();
  TestAllTokenCounts();
  TestShapes();
  TestWeights();
  TestThreads();
  TestLargeValuesSaturate();
  return 0;
}
