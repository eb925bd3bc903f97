// The "tiles" kernel on Neon with dot products: a tile of 4 tokens is 5 loads
// and 16 dot products.
#include "kernels_arm.h"
#include "tiles_neon.h"

namespace tf_pof {
namespace {

// A vector of weights has 4 outputs, one of inputs 4 tokens.
struct DotProducts {
  static constexpr int kInputs = 4;
  static constexpr int kTokens = 4;

  template <int tokens>
  TF_POF_INLINE void Multiply(const TileGroup& group, const int8_t* x,
                              int32x4_t sums[tokens][4]) {
    for (int t = 0; t < tokens; ++t) {
      for (int v = 0; v < 4; ++v) sums[t][v] = vdupq_n_s32(0);
    }
    const int8_t* weights = group.weights;
    for (uint32_t i = 0; i < group.count; ++i) {
      const int8x16_t in = vld1q_s8(x + group.blocks[i] * group.block_bytes);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const int8x16_t w = vld1q_s8(weights + 16 * v);
        sums[0][v] = vdotq_laneq_s32(sums[0][v], w, in, 0);
        if (tokens < 2) continue;
        sums[1][v] = vdotq_laneq_s32(sums[1][v], w, in, 1);
        if (tokens < 4) continue;
        sums[2][v] = vdotq_laneq_s32(sums[2][v], w, in, 2);
        sums[3][v] = vdotq_laneq_s32(sums[3][v], w, in, 3);
      }
      weights += kTileOutputs * kInputs;
    }
  }
};

}  // namespace

void RunTilesNeonDot(const void* packed, const Epilogue& epilogue,
                     const Task& task) {
  RunTiles<DotProducts>(packed, epilogue, task);
}

}  // namespace tf_pof
