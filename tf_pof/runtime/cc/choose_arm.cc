// Costs of the kernels for Arm. Nothing was measured there: they are the cycles
// of the inner loops by benchmarks/runtime/arm_loops.py, on Cortex-A72 for
// Neon, Cortex-A76 for its dot products and Neoverse N2 for matrices.
#include "buffer.h"
#include "choose.h"

namespace tf_pof {
namespace {

// Between row-major and panels, both ways: 64 zips for 16 x 16 bytes.
double ConversionCost(const Layer& layer, int tokens) {
  return CeilDiv(tokens, kPanelTokens) * (layer.inputs + layer.outputs) * 10.0;
}

// `computed` tokens at `tile` cycles for a token and tile.
double TilesCost(const Layer& layer, double tiles, double tile, int computed) {
  return computed * (tiles * tile + layer.outputs * 1.0 + layer.inputs * 0.3);
}

}  // namespace

template <int rows, int quad>
double InterleavedNeonCost(const Layer& layer, const WeightCounts& counts,
                           int tokens) {
  // Tokens that it computes at a time.
  constexpr int kTokens = rows == 1 ? 32 : 16;
  return CeilDiv(tokens, kTokens) * kTokens / 64.0 *
             (counts.quads[rows / 2] * quad + layer.outputs * 60.0) +
         ConversionCost(layer, tokens);
}

#define TF_POF_NEON_COST(rows, quad)                            \
  template double InterleavedNeonCost<rows, quad>(const Layer&, \
                                                  const WeightCounts&, int);
TF_POF_NEON_COST(1, 66)
TF_POF_NEON_COST(4, 184)
TF_POF_NEON_COST(1, 25)
TF_POF_NEON_COST(4, 48)
#undef TF_POF_NEON_COST

double TilesNeonCost(const Layer& layer, const WeightCounts& counts,
                     int tokens) {
  return TilesCost(layer, counts.tiles, tokens == 1 ? 10.0 : 8.75, tokens);
}

double TilesNeonDotCost(const Layer& layer, const WeightCounts& counts,
                        int tokens) {
  // Three tokens take the time of four.
  return TilesCost(layer, counts.tiles, tokens == 1 ? 3.0 : 2.0,
                   tokens % 4 == 3 ? tokens + 1 : tokens);
}

double TilesI8mmCost(const Layer& layer, const WeightCounts& counts,
                     int tokens) {
  // So does an odd token of two.
  return TilesCost(layer, counts.wide_tiles, 2.0, CeilDiv(tokens, 2) * 2);
}

}  // namespace tf_pof
