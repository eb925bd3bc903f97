// The "tiles" kernel on Neon without dot products: two products are added in 16
// bits, and neighbours of these in 32. Only -128 * -128 * 2 does not fit, so
// that with a weight of -128 products go to 32 bits one by one.
#include "tiles_neon.h"

#include "kernels_arm.h"

namespace tf_pof {
namespace {

// A vector of weights has 4 outputs, one of inputs a token 4 times.
struct Products {
  static constexpr int kInputs = 4;
  static constexpr int kTokens = 2;

  TF_POF_INLINE int8x16_t LoadInput(const int8_t* from) {
    int32_t four;
    memcpy(&four, from, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }

  // Each output's sum is in two lanes: of the first inputs and of the others.
  template <int tokens>
  TF_POF_INLINE void Add(const TileGroup& group, const int8_t* x, uint32_t i,
                         int32x4_t halves[tokens][8]) {
    const int8_t* weights = group.weights + static_cast<size_t>(i) * 64;
    const int8_t* from = x + group.blocks[i] * group.block_bytes;
    for (int t = 0; t < tokens; ++t) {
      const int8x16_t in = LoadInput(from + 4 * t);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const int8x16_t w = vld1q_s8(weights + 16 * v);
        int32x4_t* to = halves[t] + 2 * v;
        to[0] = vpadalq_s16(to[0], vmull_s8(vget_low_s8(w), vget_low_s8(in)));
        to[1] = vpadalq_s16(to[1], vmull_high_s8(w, in));
      }
    }
  }

  // The same of tiles i and i + 1.
  template <int tokens>
  TF_POF_INLINE void AddTwo(const TileGroup& group, const int8_t* x, uint32_t i,
                            int32x4_t halves[tokens][8]) {
    const int8_t* weights = group.weights + static_cast<size_t>(i) * 64;
    const int8_t* from[2] = {x + group.blocks[i] * group.block_bytes,
                             x + group.blocks[i + 1] * group.block_bytes};
    int8x16_t a[tokens], b[tokens];
    for (int t = 0; t < tokens; ++t) {
      a[t] = LoadInput(from[0] + 4 * t);
      b[t] = LoadInput(from[1] + 4 * t);
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int8x16_t u = vld1q_s8(weights + 16 * v);
      const int8x16_t w = vld1q_s8(weights + 64 + 16 * v);
      for (int t = 0; t < tokens; ++t) {
        int32x4_t* to = halves[t] + 2 * v;
        to[0] = vpadalq_s16(
            to[0], vmlal_s8(vmull_s8(vget_low_s8(u), vget_low_s8(a[t])),
                            vget_low_s8(w), vget_low_s8(b[t])));
        to[1] =
            vpadalq_s16(to[1], vmlal_high_s8(vmull_high_s8(u, a[t]), w, b[t]));
      }
    }
  }

  template <int tokens>
  TF_POF_INLINE void Multiply(const TileGroup& group, const int8_t* x,
                              int32x4_t sums[tokens][4]) {
    int32x4_t halves[tokens][8];
    for (int t = 0; t < tokens; ++t) {
      for (int v = 0; v < 8; ++v) halves[t][v] = vdupq_n_s32(0);
    }
    uint32_t i = 0;
    if (!group.has_lowest) {
      for (; i + 2 <= group.count; i += 2) AddTwo<tokens>(group, x, i, halves);
    }
    for (; i < group.count; ++i) Add<tokens>(group, x, i, halves);
    for (int t = 0; t < tokens; ++t) {
      for (int v = 0; v < 4; ++v) {
        sums[t][v] = vpaddq_s32(halves[t][2 * v], halves[t][2 * v + 1]);
      }
    }
  }
};

}  // namespace

size_t TilesNeonScratch(const void* packed) {
  const auto& p = *static_cast<const Tiles*>(packed);
  constexpr int kMaxTokens = 16;
  return static_cast<size_t>(CeilDiv(p.inputs, 16)) * 16 * kMaxTokens;
}

void RunTilesNeon(const void* packed, const Epilogue& epilogue,
                  const Task& task) {
  RunTiles<Products>(packed, epilogue, task);
}

}  // namespace tf_pof
