// Layers with results that are written out here, and the check of a kernel
// against them.
#ifndef TF_POF_RUNTIME_CC_TESTS_LAYER_DATA_H_
#define TF_POF_RUNTIME_CC_TESTS_LAYER_DATA_H_

#include <math.h>
#include <string.h>

#include "fully_connected.h"
#include "tests/testing.h"

namespace {

enum Pattern {
  kRandom,
  kBlocks4x1,
  kBlocks1x4,
  kBlocks16x4,
  kEmptyRows,
  kFirstRowFull,
  kTwoOfFour,
};

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
  if (c.pattern == kBlocks4x1 || c.pattern == kBlocks1x4 ||
      c.pattern == kBlocks16x4) {
    const int rows = c.pattern == kBlocks4x1   ? 4
                     : c.pattern == kBlocks1x4 ? 1
                                               : 16;
    const int columns = c.pattern == kBlocks4x1 ? 1 : 4;
    Random block = {static_cast<uint64_t>(n / rows) * 7919 + k / columns};
    block.Bits();
    return block.Bits() < c.density * 4294967295.0;
  }
  if (c.pattern == kTwoOfFour) {
    // Any two of each four inputs may be there.
    Random group = {static_cast<uint64_t>(n) * 7919 + k / 4};
    group.Bits();
    const int first = group.Between(0, 3);
    const int second = (first + group.Between(1, 3)) % 4;
    if (k % 4 != first && k % 4 != second) return false;
  }
  return random->Bits() < c.density * 4294967295.0;
}

// Writes out what the input gives.
void SetSums(Data* d) {
  const Case& c = d->shape;
  for (int m = 0; m < c.tokens; ++m) {
    for (int n = 0; n < c.outputs; ++n) {
      int64_t sum = c.bias ? d->bias[n] : 0;
      for (int k = 0; k < c.inputs; ++k) {
        sum += d->weights[n * c.inputs + k] *
               (d->input[m * c.inputs + k] - c.zero_point);
      }
      d->sums[m * c.outputs + n] = static_cast<int32_t>(sum);
    }
  }
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
  SetSums(&d);
  return d;
}

[[maybe_unused]] void FreeData(Data* d) {
  free(d->weights);
  free(d->input);
  free(d->bias);
  free(d->scales);
  free(d->sums);
}

// Whether a kernel of that name can have such weights: those of n:m take no
// more than n of m.
bool Takes(const Data& d, const char* kernel) {
  int most, size;
  if (kernel == nullptr || sscanf(kernel, "%d:%d_", &most, &size) != 2) {
    return true;
  }
  for (int n = 0; n < d.shape.outputs; ++n) {
    int count = 0;
    for (int k = 0; k < d.shape.inputs; ++k) {
      if (k % size == 0) count = 0;
      count += d.weights[n * d.shape.inputs + k] != 0;
      if (count > most) return false;
    }
  }
  return true;
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

// What the model's rows are read through, as the delegate does.
struct Source {
  const Data* data;
  int failing_row;  // or -1
};

TfPofStatus ReadRows(void* context, int32_t first_row, int32_t rows,
                     int8_t* weights) {
  const auto& source = *static_cast<const Source*>(context);
  const Case& c = source.data->shape;
  CHECK(first_row >= 0 && rows >= 1 && rows <= 256 &&
            first_row + rows <= c.outputs,
        "%d rows from %d on", rows, first_row);
  if (source.failing_row >= first_row &&
      source.failing_row < first_row + rows) {
    return kTfPofInvalidArgument;
  }
  memcpy(weights, source.data->weights + first_row * c.inputs, rows * c.inputs);
  return kTfPofOk;
}

TfPofFullyConnectedParams ParamsOf(const Data& d, const Kind& kind) {
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
  return params;
}

[[maybe_unused]] void TestKind(const Data& d, const Kind& kind,
                              const char* kernel, TfPofThreadPool* pool,
                              bool through_rows = false) {
  const Case& c = d.shape;
  TfPofFullyConnectedParams params = ParamsOf(d, kind);
  // Often with no better instructions than the kernel's own.
  if (kernel != nullptr && c.tokens % 2 == 1) {
    params.isa = strrchr(kernel, '_') + 1;
  }
  Source source = {&d, -1};
  if (through_rows) {
    params.weights = nullptr;
    params.read_rows = ReadRows;
    params.read_context = &source;
  }
  TfPofFullyConnected* layer;
  const TfPofStatus status =
      TfPofFullyConnectedCreate(&params, kernel, c.tokens, pool, &layer);
  if (!Takes(d, kernel)) {
    CHECK(status == kTfPofInvalidArgument && layer == nullptr, "%s", kernel);
    return;
  }
  CHECK(status == kTfPofOk, "%s", kernel);

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

}  // namespace

#endif  // TF_POF_RUNTIME_CC_TESTS_LAYER_DATA_H_
