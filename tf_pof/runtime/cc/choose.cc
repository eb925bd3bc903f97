#include "choose.h"

#include "interleave.h"
#include "tiles.h"

namespace tf_pof {
namespace {

constexpr int kChunk = 1024;

int CountNonzeros(const uint8_t* bytes, int count) {
  int found = 0;
  for (int i = 0; i < count; ++i) found += bytes[i] != 0;
  return found;
}

// Inputs [begin, begin + count) of 16 outputs at most.
void CountBlock(const Layer& layer, int first, int begin, int count,
                WeightCounts* counts) {
  // Which inputs any output of the current block needs, by the block's size.
  constexpr int kRows[] = {1, 2, 4, kTileOutputs};
  alignas(64) uint8_t any[4][kChunk] = {};
  for (int r = 0; r < kTileOutputs && first + r < layer.outputs; ++r) {
    memcpy(any[0], layer.row(first + r) + begin, count);
    const int found = CountNonzeros(any[0], count);
    counts->nonzeros += found;
    counts->quads[0] += Quads(found);
    for (int i = 1; i < 4; ++i) {
      if (r % kRows[i] == 0) memset(any[i], 0, count);
      for (int k = 0; k < count; ++k) any[i][k] |= any[0][k];
      const bool last =
          (r + 1) % kRows[i] == 0 || first + r + 1 == layer.outputs;
      if (last && kRows[i] < kTileOutputs) {
        counts->quads[i] += Quads(CountNonzeros(any[i], count));
      }
    }
  }
  for (int k = 0; k < count; k += kTileInputs) {
    uint32_t tile;
    memcpy(&tile, any[3] + k, sizeof(tile));
    counts->tiles += tile != 0;
  }
}

double Panels(int tokens) { return CeilDiv(tokens, kPanelTokens); }

// Tokens that a rows kernel computes in vain are cheaper than real ones only
// down to a point: its vectors have 16, 8, 4, 2 or 1.
double RowsTokens(int tokens) {
  const int rest = tokens % 16;
  int computed = 16;
  while (rest > 0 && computed / 2 >= rest) computed /= 2;
  return tokens - rest + (rest > 0 ? computed : 0);
}

// Between row-major and panels, both ways.
double ConversionCost(const Layer& layer, int tokens) {
  return Panels(tokens) * (layer.inputs + layer.outputs) * 2.7;
}

}  // namespace

double DenseScalarCost(const Layer& layer, const WeightCounts&, int tokens) {
  return 0.5 * layer.inputs * layer.outputs * tokens;
}

double SparseScalarCost(const Layer& layer, const WeightCounts& counts,
                        int tokens) {
  return Panels(tokens) * (counts.nonzeros * 40 + layer.outputs * 200.0);
}

double InterleavedAvx2Cost(const Layer& layer, const WeightCounts& counts,
                           int tokens) {
  return Panels(tokens) * (counts.quads[0] * 30 + layer.outputs * 40.0);
}

double InterleavedAvxVnniCost(const Layer& layer, const WeightCounts& counts,
                              int tokens) {
  return Panels(tokens) * (counts.quads[0] * 14 + layer.outputs * 40.0);
}

template <int rows>
double InterleavedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                             int tokens) {
  const double quads = counts.quads[rows / 2];
  constexpr double kQuad = rows == 1 ? 4.35 : rows == 2 ? 5.6 : 8.85;
  const double outputs = layer.outputs * 8.0;
  return Panels(tokens) * (quads * kQuad + outputs) +
         ConversionCost(layer, tokens);
}

template double InterleavedAvx512Cost<1>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<2>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<4>(const Layer&, const WeightCounts&,
                                         int);

template <int rows>
double InterleavedNeonCost(const Layer& layer, const WeightCounts& counts,
                           int tokens) {
  // From models of Cortex-A76: nothing was measured on Arm.
  constexpr double kQuad = rows == 1 ? 32 : 56;
  return Panels(tokens) *
         (counts.quads[rows / 2] * kQuad + layer.outputs * 60.0);
}

template double InterleavedNeonCost<1>(const Layer&, const WeightCounts&, int);
template double InterleavedNeonCost<4>(const Layer&, const WeightCounts&, int);

double WindowsAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens) {
  // Packing would take too long: how full steps get is known from the share
  // of nonzeros, if they are spread evenly.
  constexpr double kFill[][2] = {{0.0, 0.0},   {0.05, 0.53}, {0.1, 0.86},
                                 {0.15, 0.93}, {0.2, 0.96},  {1.0, 1.0}};
  const double nonzeros = counts.nonzeros;
  const double density = nonzeros / layer.inputs / layer.outputs;
  int i = 1;
  while (density > kFill[i][0]) ++i;
  const double slope =
      (kFill[i][1] - kFill[i - 1][1]) / (kFill[i][0] - kFill[i - 1][0]);
  const double fill = kFill[i - 1][1] + (density - kFill[i - 1][0]) * slope;
  const double steps = nonzeros == 0 ? 0 : nonzeros / fill / 64;
  const double groups = CeilDiv(layer.outputs, 16);
  // A step loads its weights whatever the number of tokens.
  const double few = Max(3.5 / tokens, 0.82);
  return (steps * few + groups * 2.2 + layer.inputs * 0.08) *
         RowsTokens(tokens);
}

double TilesAvx512Cost(const Layer& layer, const WeightCounts& counts,
                       int tokens) {
  const double tile = Max(2.0 / tokens, 0.52);
  return (counts.tiles * tile + layer.outputs * 0.2 + layer.inputs * 0.1) *
         RowsTokens(tokens);
}

WeightCounts CountWeights(const Layer& layer) {
  WeightCounts counts = {};
  for (int n = 0; n < layer.outputs; n += kTileOutputs) {
    for (int k = 0; k < layer.inputs; k += kChunk) {
      CountBlock(layer, n, k, Min(kChunk, layer.inputs - k), &counts);
    }
  }
  return counts;
}

const Kernel* ChooseKernel(const Layer& layer, int tokens) {
  const WeightCounts counts = CountWeights(layer);
  const Kernel* best = nullptr;
  double least = 0;
  for (int i = 0; i < kNumKernels; ++i) {
    if (!Supported(kKernels[i].isa)) continue;
    const double cost = kKernels[i].cost(layer, counts, tokens);
    if (best == nullptr || cost < least) {
      best = &kKernels[i];
      least = cost;
    }
  }
  return best;
}

}  // namespace tf_pof
