// Weights are counted right, and each kind of layer gets its kernel.
#include "choose.h"

#include <string.h>

#include "tests/testing.h"
#if defined(__x86_64__)
#include "windows.h"
#endif

namespace {

using tf_pof::Isa;
using tf_pof::Layer;
using tf_pof::WeightCounts;

constexpr int kInputs = 1100;
constexpr int kOutputs = 37;

Layer LayerOf(int inputs, int outputs, const int8_t* weights) {
  Layer layer = {};
  layer.inputs = inputs;
  layer.outputs = outputs;
  layer.weights = weights;
  return layer;
}

void TestCounts() {
  auto* weights = Allocate<int8_t>(kInputs * kOutputs);
  memset(weights, 0, kInputs * kOutputs);
  const Layer layer = LayerOf(kInputs, kOutputs, weights);
  WeightCounts counts;
  CHECK(tf_pof::CountWeights(layer, &counts) == kTfPofOk, "counts");
  CHECK(counts.nonzeros == 0 && counts.quads[0] == 0 && counts.tiles == 0,
        "no weights");
  // Five in output 0, one of them also in output 1; the last corner alone.
  for (int k : {0, 1, 5, 8, 500}) weights[k] = 1;
  weights[kInputs + 8] = -1;
  weights[kInputs * kOutputs - 1] = -128;
  CHECK(tf_pof::CountWeights(layer, &counts) == kTfPofOk, "counts");
  CHECK(counts.nonzeros == 7, "%g", counts.nonzeros);
  CHECK(counts.quads[0] == 2 + 1 + 1, "%g", counts.quads[0]);
  CHECK(counts.quads[1] == 2 + 1, "%g", counts.quads[1]);
  CHECK(counts.quads[2] == 2 + 1, "%g", counts.quads[2]);
  // Inputs 0-3, 4-7, 8-11 and 500-503 of outputs 0-15, and the corner.
  CHECK(counts.tiles == 5, "%g", counts.tiles);
  // Output 0 has four of those, output 1 one, and the corner.
  CHECK(counts.aligned == 6, "%g", counts.aligned);
  free(weights);
}

// The kernel for 768 x 768 weights kept whole in blocks of rows x columns.
const char* Chosen(int rows, int columns, double density, int tokens, Isa isa) {
  constexpr int kSize = 768;
  static int8_t weights[kSize * kSize];
  Random random = {1};
  for (int n = 0; n < kSize; n += rows) {
    for (int k = 0; k < kSize; k += columns) {
      const int8_t value = random.Bits() < density * 4294967295.0;
      for (int i = 0; i < rows * columns; ++i) {
        weights[(n + i / columns) * kSize + k + i % columns] = value;
      }
    }
  }
  const tf_pof::Kernel* kernel;
  CHECK(tf_pof::ChooseKernel(LayerOf(kSize, kSize, weights), tokens, isa,
                             &kernel) == kTfPofOk,
        "choice");
  return kernel->name;
}

// How full the steps of the windows kernel get, which its estimate relies on.
void TestFill() {
#if defined(__x86_64__)
  if (!tf_pof::Supported(Isa::kAvx512Vnni)) return;
  constexpr int kInputs = 768, kOutputs = 256;
  static int8_t weights[kInputs * kOutputs];
  static float scales[kOutputs];
  const double cases[][2] = {
      {0.05, 0.5}, {0.1, 0.84}, {0.15, 0.91}, {0.2, 0.94}};
  for (const auto& c : cases) {
    Random random = {7};
    double nonzeros = 0;
    for (int8_t& weight : weights) {
      weight = random.Bits() < c[0] * 4294967295.0;
      nonzeros += weight;
    }
    Layer layer = LayerOf(kInputs, kOutputs, weights);
    layer.scales = scales;
    void* packed;
    CHECK(tf_pof::PackWindows(layer, &packed) == kTfPofOk, "packing");
    const size_t steps = static_cast<tf_pof::Windows*>(packed)->steps.size;
    const double fill = nonzeros / 64 / static_cast<double>(steps);
    CHECK(fill > c[1] && fill <= 1, "%g at density %g", fill, c[0]);
    tf_pof::FreeWindows(packed);
  }
#endif
}

void TestChoice() {
  if (!tf_pof::Supported(tf_pof::Isa::kAvx512Vnni)) return;
  const struct {
    const char* kernel;
    int rows, columns;
    double density;
    int tokens;
    Isa isa = tf_pof::kBestIsa;
  } cases[] = {
      {"16x4_tiles_avx512vnni", 1, 1, 1.0, 128},
      {"1x1_windows_avx512vnni", 1, 1, 0.1, 128},
      {"1x1_windows_avx512vnni", 1, 1, 0.1, 1},
      {"1x1_windows_avx512vnni", 1, 1, 0.2, 1},
      {"16x4_tiles_avx512vnni", 1, 1, 1.0, 1},
      {"1x1_interleave_avx512vnni", 1, 1, 0.04, 128},
      {"4x1_interleave_avx512vnni", 4, 1, 0.1, 128},
      {"2x1_interleave_avx512vnni", 2, 1, 0.1, 128},
      {"1x4_interleave_avx512vnni", 1, 4, 0.1, 128},
      {"1x1_windows_avx512vnni", 1, 4, 0.2, 128},
      {"1x1_interleave_avx2", 4, 1, 0.1, 128, Isa::kAvx2},
      {"1x1_scalar", 1, 1, 0.1, 128, Isa::kAny},
  };
  for (const auto& c : cases) {
    const char* chosen = Chosen(c.rows, c.columns, c.density, c.tokens, c.isa);
    CHECK(strcmp(chosen, c.kernel) == 0, "%s instead of %s", chosen, c.kernel);
  }
}

}  // namespace

int main() {
  TestCounts();
  TestFill();
  TestChoice();
  return 0;
}
