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
  CHECK(tf_pof::CountWeights(layer, tf_pof::kBestIsa, &counts) == kTfPofOk,
        "counts");
  CHECK(counts.nonzeros == 0 && counts.quads[0] == 0 && counts.tiles == 0,
        "no weights");
  // Five in output 0, one of them also in output 1; the last corner alone.
  for (int k : {0, 1, 5, 8, 500}) weights[k] = 1;
  weights[kInputs + 8] = -1;
  weights[kInputs * kOutputs - 1] = -128;
  CHECK(tf_pof::CountWeights(layer, tf_pof::kBestIsa, &counts) == kTfPofOk,
        "counts");
  CHECK(counts.nonzeros == 7, "%g", counts.nonzeros);
  CHECK(counts.quads[0] == 2 + 1 + 1, "%g", counts.quads[0]);
  CHECK(counts.quads[1] == 2 + 1, "%g", counts.quads[1]);
  CHECK(counts.quads[2] == 2 + 1, "%g", counts.quads[2]);
  // Inputs 0-3, 4-7, 8-11 and 500-503 of outputs 0-15, and the corner.
  CHECK(counts.tiles == 5, "%g", counts.tiles);
  // Inputs 0-7, 8-15 and 496-503, and the corner.
  CHECK(counts.wide_tiles == 4, "%g", counts.wide_tiles);
  // Output 0 has four of those, output 1 one, and the corner.
  CHECK(counts.aligned == 6, "%g", counts.aligned);
  CHECK(counts.crowded == 0, "%g", counts.crowded);
  // Three of a group in every way, and four; two and two of neighbours.
  memset(weights, 0, kInputs * kOutputs);
  for (int k : {0,  1,  2,  8,  9,  11, 60,  62,  63,  65,
                66, 67, 96, 97, 98, 99, 102, 103, 104, 105}) {
    weights[3 * kInputs + k] = 1;
  }
  memset(weights + kInputs * kOutputs - 3, 1, 3);
  CHECK(tf_pof::CountWeights(layer, tf_pof::kBestIsa, &counts) == kTfPofOk,
        "counts");
  CHECK(counts.crowded == 6, "%g", counts.crowded);
  free(weights);
}

constexpr int kSize = 768;

const char* ChosenFor(const int8_t* weights, int tokens, Isa isa) {
  const tf_pof::Kernel* kernel;
  double window_fill;
  CHECK(tf_pof::ChooseKernel(LayerOf(kSize, kSize, weights), tokens, isa,
                             &kernel, &window_fill) == kTfPofOk,
        "choice");
  return kernel->name;
}

// Weights kept whole in blocks of rows x columns. Shares of nonzeros of outputs
// lie evenly from density * (1 - spread) to density * (1 + spread).
struct Pattern {
  int inputs, outputs;
  int rows, columns;
  double density;
  double spread;
  double fill;  // that steps have at least, or 0
};

int8_t* MakeWeights(const Pattern& p) {
  auto* weights = Allocate<int8_t>(p.inputs * p.outputs);
  memset(weights, 0, p.inputs * p.outputs);
  Random random = {7};
  for (int n = 0; n < p.outputs; n += p.rows) {
    const double share =
        p.density * (1 + p.spread * (random.Bits() / 2147483648.0 - 1));
    for (int k = 0; k < p.inputs; k += p.columns) {
      if (random.Bits() >= share * 4294967296.0) continue;
      for (int i = 0; i < p.rows && n + i < p.outputs; ++i) {
        for (int j = 0; j < p.columns && k + j < p.inputs; ++j) {
          weights[(n + i) * p.inputs + k + j] = 1;
        }
      }
    }
  }
  return weights;
}

// The kernel for 768 x 768 weights.
const char* Chosen(int rows, int columns, double density, int tokens, Isa isa) {
  int8_t* weights = MakeWeights({kSize, kSize, rows, columns, density, 0, 0});
  const char* chosen = ChosenFor(weights, tokens, isa);
  free(weights);
  return chosen;
}

// Two of each four weights.
void FillTwoOfFour(int8_t* weights, int count) {
  Random random = {1};
  for (int i = 0; i + 4 <= count; i += 4) {
    const int first = random.Between(0, 3);
    weights[i + first] = 1;
    weights[i + (first + random.Between(1, 3)) % 4] = 1;
  }
}

#if defined(__x86_64__)
// The steps of the windows kernel that were estimated are those of packing.
void CheckSteps(const Pattern& p, const int8_t* weights) {
  auto* scales = Allocate<float>(p.outputs);
  memset(scales, 0, p.outputs * sizeof(float));
  Layer layer = LayerOf(p.inputs, p.outputs, weights);
  layer.scales = scales;
  void* packed;
  CHECK(tf_pof::PackWindows(layer, &packed) == kTfPofOk, "packing");
  const auto steps =
      static_cast<double>(static_cast<tf_pof::Windows*>(packed)->steps.size);
  tf_pof::FreeWindows(packed);
  WeightCounts counts;
  CHECK(tf_pof::CountWeights(layer, Isa::kAvx512Vbmi, &counts) == kTfPofOk,
        "counts");
  const double least = tf_pof::Min(0.95 * steps, steps - 1);
  const double most = tf_pof::Max(1.05 * steps, steps + 1);
  CHECK(counts.window_steps >= least && counts.window_steps <= most,
        "%g instead of %g: %d x %d, blocks of %d x %d, density %g",
        counts.window_steps, steps, p.outputs, p.inputs, p.rows, p.columns,
        p.density);
  CHECK(counts.nonzeros >= p.fill * 64 * steps, "%g", counts.nonzeros / steps);
  CHECK(tf_pof::CountWeights(layer, Isa::kAvx512Vnni, &counts) == kTfPofOk &&
            counts.window_steps == 0,
        "not measured where it cannot be chosen");
  free(scales);
}
#endif

void TestWindowSteps() {
#if defined(__x86_64__)
  if (!tf_pof::Supported(Isa::kAvx512Vbmi)) return;
  const Pattern cases[] = {
      {768, 768, 1, 1, 0.5, 0, 0.98},   {768, 768, 1, 1, 0.2, 0, 0.94},
      {768, 768, 1, 1, 0.15, 0, 0.91},  {768, 768, 1, 1, 0.1, 0, 0.84},
      {768, 768, 1, 1, 0.05, 0, 0.5},   {768, 256, 1, 1, 0.1, 0, 0.84},
      {768, 700, 1, 1, 0.8, 0, 0.95},   {768, 700, 1, 1, 0.55, 1, 0.9},
      {3072, 512, 1, 1, 0.3, 0, 0.93},  {3072, 512, 1, 1, 0.1, 0, 0.82},
      {1536, 384, 1, 1, 0.05, 0, 0.45}, {384, 384, 1, 1, 0.1, 0, 0},
      {768, 768, 1, 4, 0.2, 0, 0},      {768, 768, 1, 4, 0.1, 0, 0},
      {768, 768, 1, 16, 0.2, 0, 0},     {768, 768, 1, 16, 0.1, 0, 0},
      {768, 768, 4, 1, 0.2, 0, 0},      {768, 768, 4, 1, 0.1, 0, 0},
      {768, 768, 1, 1, 0.2, 1, 0},      {768, 768, 1, 1, 0.1, 1, 0},
      {3072, 768, 1, 1, 0.1, 1, 0},     {1000, 300, 1, 1, 0.1, 0.5, 0},
      {1100, 300, 1, 1, 0.1, 0.5, 0},   {100, 768, 1, 1, 0.1, 0, 0},
      {768, 20, 1, 1, 0.1, 1, 0},       {768, 2, 1, 1, 0.1, 0, 0},
      {65, 1, 1, 1, 0.3, 0, 0},         {768, 768, 1, 1, 0, 0, 0},
  };
  for (const Pattern& p : cases) {
    int8_t* weights = MakeWeights(p);
    CheckSteps(p, weights);
    free(weights);
  }
  Pattern two_of_four = {768, 768, 1, 1, 0.5, 0, 1};
  int8_t* weights = MakeWeights({768, 768, 1, 1, 0, 0, 0});
  FillTwoOfFour(weights, 768 * 768);
  CheckSteps(two_of_four, weights);
  // Outputs with nothing beside full ones.
  memset(weights, 0, 768 * 768);
  memset(weights + 768 * 300, 1, 768 * 200);
  CheckSteps({768, 768, 1, 1, 0.25, 0, 0.9}, weights);
  free(weights);
#endif
}

struct Choice {
  const char* kernel;
  int rows, columns;
  double density;
  int tokens;
  Isa isa = tf_pof::kBestIsa;
};

void TestChoices(const Choice* cases, int count) {
  for (int i = 0; i < count; ++i) {
    const Choice& c = cases[i];
    const char* chosen = Chosen(c.rows, c.columns, c.density, c.tokens, c.isa);
    CHECK(strcmp(chosen, c.kernel) == 0, "%s instead of %s, %d x %d, %g, %d",
          chosen, c.kernel, c.rows, c.columns, c.density, c.tokens);
  }
}

void TestChoiceOnX86() {
  if (!tf_pof::Supported(tf_pof::Isa::kAvx512Vbmi)) return;
  const Choice cases[] = {
      {"16x4_tiles_avx512vnni", 1, 1, 1.0, 128},
      {"1x1_windows_avx512vbmi", 1, 1, 0.1, 128},
      {"1x1_windows_avx512vbmi", 1, 1, 0.1, 1},
      {"1x1_windows_avx512vbmi", 1, 1, 0.2, 1},
      {"16x4_tiles_avx512vnni", 1, 1, 1.0, 1},
      {"1x1_interleave_avx512vnni", 1, 1, 0.04, 128},
      {"4x1_interleave_avx512vnni", 4, 1, 0.1, 128},
      {"2x1_interleave_avx512vnni", 2, 1, 0.1, 128},
      {"1x4_interleave_avx512vnni", 1, 4, 0.1, 128},
      {"1x1_windows_avx512vbmi", 1, 4, 0.2, 128},
      {"1x1_interleave_avx2", 1, 1, 0.1, 128, Isa::kAvx2},
      {"4x1_interleave_avx2", 4, 1, 0.1, 128, Isa::kAvx2},
      {"1x1_interleave_avxvnni", 2, 1, 0.1, 128, Isa::kAvxVnni},
      {"4x1_interleave_avxvnni", 4, 1, 0.1, 128, Isa::kAvxVnni},
      {"1x1_scalar", 1, 1, 0.1, 128, Isa::kAny},
  };
  TestChoices(cases, sizeof(cases) / sizeof(cases[0]));
}

// Two of each four weights, but for one group of three.
void TestChoiceOfTwoOfFour() {
  if (!tf_pof::Supported(Isa::kAvxVnni)) return;
  static int8_t weights[kSize * kSize];
  FillTwoOfFour(weights, kSize * kSize);
  for (int crowded : {0, 1}) {
    const Choice cases[] = {
        {crowded ? "1x1_interleave_avx2" : "2:4_pairs_avx2", 1, 4, 0.5, 128,
         Isa::kAvx2},
        {crowded ? "1x1_interleave_avxvnni" : "2:4_pairs_avxvnni", 1, 4, 0.5,
         128, Isa::kAvxVnni},
        {"dense_scalar", 1, 4, 0.5, 1, Isa::kAvx2},
    };
    for (const Choice& c : cases) {
      const char* chosen = ChosenFor(weights, c.tokens, c.isa);
      CHECK(strcmp(chosen, c.kernel) == 0, "%s instead of %s", chosen,
            c.kernel);
    }
    memset(weights + 4 * 100, 1, 3);
  }
}

// What a quad and a tile cost is in benchmarks/results/arm.md.
void TestChoiceOnArm() {
  const Choice neon[] = {
      {"16x4_tiles_neon", 1, 1, 1.0, 128, Isa::kNeon},
      {"16x4_tiles_neon", 1, 1, 0.6, 128, Isa::kNeon},
      {"1x1_interleave_neon", 1, 1, 0.4, 128, Isa::kNeon},
      {"4x1_interleave_neon", 4, 1, 0.1, 128, Isa::kNeon},
      {"16x4_tiles_neon", 16, 4, 0.1, 128, Isa::kNeon},
      {"16x4_tiles_neon", 1, 1, 0.1, 1, Isa::kNeon},
  };
  const Choice dot[] = {
      {"16x4_tiles_neondot", 1, 1, 1.0, 128, Isa::kNeonDot},
      {"16x4_tiles_neondot", 1, 1, 0.4, 128, Isa::kNeonDot},
      {"1x1_interleave_neondot", 1, 1, 0.2, 128, Isa::kNeonDot},
      {"4x1_interleave_neondot", 4, 1, 0.2, 128, Isa::kNeonDot},
      {"16x4_tiles_neondot", 1, 1, 1.0, 1, Isa::kNeonDot},
  };
  const Choice matrices[] = {
      {"16x8_tiles_i8mm", 1, 1, 1.0, 128},
      {"16x8_tiles_i8mm", 1, 1, 0.2, 128},
      {"1x1_interleave_neondot", 1, 1, 0.1, 128},
      {"4x1_interleave_neondot", 4, 1, 0.1, 128},
  };
  if (tf_pof::Supported(Isa::kNeon)) {
    TestChoices(neon, sizeof(neon) / sizeof(neon[0]));
  }
  if (tf_pof::Supported(Isa::kNeonDot)) {
    TestChoices(dot, sizeof(dot) / sizeof(dot[0]));
  }
  if (tf_pof::Supported(Isa::kI8mm)) {
    TestChoices(matrices, sizeof(matrices) / sizeof(matrices[0]));
  }
}

}  // namespace

int main() {
  TestCounts();
  TestWindowSteps();
  TestChoiceOnX86();
  TestChoiceOfTwoOfFour();
  TestChoiceOnArm();
  return 0;
}
