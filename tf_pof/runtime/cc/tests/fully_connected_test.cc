// Every kernel against sums that are written out, in every layout.
#include "fully_connected.h"

#include "tests/layer_data.h"

namespace {

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
  // Few weights of many inputs are packed otherwise than many.
  for (int inputs : {1100, 4096, 4100}) {
    for (double density : {0.02, 0.5}) {
      TestCase({inputs, 24, 70, density, kBlocks4x1, 11, 0, true}, kKinds,
               kAllKinds, 1);
    }
  }
}

void TestWeights() {
  for (Pattern pattern : {kRandom, kBlocks4x1, kBlocks1x4, kBlocks16x4,
                          kEmptyRows, kFirstRowFull}) {
    for (double density : {0.0, 0.02, 0.5, 1.0}) {
      for (int zero_point : {-128, 0, 127}) {
        TestCase({199, 70, 18, density, pattern, zero_point, 0, true}, kKinds,
                 1, 1);
      }
      TestCase({820, 66, 65, density, pattern, 9, 0, true}, kKinds, 1, 1);
    }
  }
}

// Blocks with none to a few quads, and no outputs but those of whole blocks;
// pairs likewise, and one output that has no other.
void TestShortLists() {
  for (double density : {0.0, 0.01, 0.03, 0.06, 0.12}) {
    TestCase({100, 268, 65, density, kBlocks4x1, 11, 0, true}, kKinds,
             kAllKinds, 1);
    TestCase({100, 267, 65, density, kRandom, 11, 0, true}, kKinds, kAllKinds,
             1);
  }
}

// Groups with no, one and two weights; inputs and outputs that are not whole
// groups and couples; one tile of the inputs and several.
void TestTwoOfFour() {
  const int shapes[][2] = {{1, 1},   {2, 3},    {30, 2},   {31, 9},
                           {33, 37}, {128, 40}, {129, 41}, {257, 300},
                           {700, 5}, {1029, 67}};
  for (const auto& shape : shapes) {
    for (double density : {0.0, 0.5, 1.0}) {
      for (int tokens : {1, 31, 33, 70}) {
        TestCase({shape[0], shape[1], tokens, density, kTwoOfFour, 11, 0, true},
                 kKinds, 1, 1);
      }
    }
    TestCase({shape[0], shape[1], 65, 0.9, kTwoOfFour, -128, 1, false}, kKinds,
             kAllKinds, 1);
  }
  TestCase({300, 520, 150, 0.9, kTwoOfFour, 3, 0, true}, kKinds, kAllKinds, 3);
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

// Three layers of one input in one call.
void TestTogether(const char* const kernels[3], int inputs, int tokens,
                  const Kind& kind, TfPofThreadPool* pool) {
  const int outputs[3] = {260, 48, 513};
  Data data[3];
  TfPofFullyConnected* layers[3];
  void* results[3];
  for (int i = 0; i < 3; ++i) {
    data[i] =
        MakeData({inputs, outputs[i], tokens, 0.4, kTwoOfFour, 4, 0, true});
    memcpy(data[i].input, data[0].input, inputs * tokens);
    SetSums(&data[i]);
    const TfPofFullyConnectedParams params = ParamsOf(data[i], kind);
    CHECK(TfPofFullyConnectedCreate(&params, kernels[i], tokens, pool,
                                    &layers[i]) == kTfPofOk,
          "%s", kernels[i]);
    results[i] = Allocate<int8_t>(TfPofPanelBytes(tokens, outputs[i]));
  }
  const int threads = TfPofThreadPoolThreads(pool);
  auto* input = Allocate<int8_t>(TfPofPanelBytes(tokens, inputs));
  auto* workspace =
      Allocate<uint8_t>(TfPofFullyConnectedWorkspaceAll(layers, 3, threads));
  TfPofToPanels(data[0].input, tokens, inputs, input);
  CHECK(TfPofFullyConnectedRunAll(
            layers, 3, tokens, kind.input == kTfPofRows ? data[0].input : input,
            kind.input, results, kind.output, workspace, pool) == kTfPofOk,
        "%s", kernels[0]);
  for (int i = 0; i < 3; ++i) {
    auto* rows = Allocate<int8_t>(tokens * outputs[i]);
    memcpy(rows, results[i], tokens * outputs[i]);
    if (kind.output == kTfPofPanels) {
      TfPofFromPanels(static_cast<int8_t*>(results[i]), tokens, outputs[i],
                      rows);
    }
    CheckOutput(data[i], kind, kernels[i], threads, rows);
    free(rows);
    free(results[i]);
    TfPofFullyConnectedDelete(layers[i]);
    FreeData(&data[i]);
  }
  free(input);
  free(workspace);
}

void TestLayersOfOneInput() {
  for (int threads : {1, 3}) {
    TfPofThreadPool* pool =
        threads == 1 ? nullptr : TfPofThreadPoolCreate(threads);
    for (int i = 0; i < TfPofKernelCount(); ++i) {
      const char* one = TfPofKernelName(i);
      const char* other = TfPofKernelName(i > 0 ? i - 1 : i);
      const char* const same[3] = {one, one, one};
      const char* const mixed[3] = {one, other, one};
      for (int tokens : {1, 70}) {
        TestTogether(same, 200, tokens, kKinds[3], pool);
        TestTogether(mixed, 1100, tokens, kKinds[4], pool);
      }
      TestTogether(same, 70, 20, kKinds[6], pool);
      TestTogether(mixed, 70, 20, kKinds[7], pool);
    }
    TfPofThreadPoolDelete(pool);
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

// Weights and inputs as far from zero as they get, so that products of 16 bits
// get as large as they can: without a weight of -128, which may take another
// way, and with it.
void TestExtremes() {
  for (Pattern pattern : {kRandom, kTwoOfFour}) {
    for (int lowest : {-127, -128}) {
      for (int tokens : {1, 2, 7, 64}) {
        Data d = MakeData({197, 35, tokens, 1.0, pattern, 3, 0, true});
        Random random = {static_cast<uint64_t>(tokens)};
        for (int i = 0; i < 197 * 35; ++i) {
          if (pattern == kTwoOfFour && d.weights[i] == 0) continue;
          const bool low = random.Bits() & 1;
          d.weights[i] = static_cast<int8_t>(low ? lowest : 127);
        }
        for (int i = 0; i < 197 * tokens; ++i) {
          const bool low = random.Bits() & 3;
          d.input[i] = static_cast<int8_t>(low ? -128 : 127);
        }
        SetSums(&d);
        for (int i = 0; i < TfPofKernelCount(); ++i) {
          TestKind(d, kKinds[0], TfPofKernelName(i), nullptr);
        }
        FreeData(&d);
      }
    }
  }
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
  TestGeluTable();
  TestAllTokenCounts();
  TestShapes();
  TestWeights();
  TestShortLists();
  TestTwoOfFour();
  TestThreads();
  TestLayersOfOneInput();
  TestLargeValuesSaturate();
  TestExtremes();
  return 0;
}
