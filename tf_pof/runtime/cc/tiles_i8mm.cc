// The "tiles" kernel on Neon with products of 8-bit matrices: a tile of 4
// tokens is 10 loads and 16 products of 2 x 8 by 8 x 2.
//
// Sparse kernels gain less from such products: a list of 8 inputs takes 24 zips
// for 16 tokens where two of 4 take 16. Products and zips of 8 inputs and 16
// tokens are then 32 with one output, half of them in vain, where dot products
// make 24; 32 and 32 with blocks of 2 outputs; 40 and 48 with blocks of 4, of
// which longer lists' fill takes a part.
#include "kernels_arm.h"
#include "tiles_neon.h"

namespace tf_pof {
namespace {

// A vector of weights has 2 outputs, one of inputs 2 tokens.
struct Matrices {
  static constexpr int kInputs = 8;
  static constexpr int kTokens = 4;

  template <int tokens>
  TF_POF_INLINE void Multiply(const TileGroup& group, const int8_t* x,
                              int32x4_t sums[tokens][4]) {
    // One token runs beside one that is not stored.
    constexpr int kPairs = (tokens + 1) / 2;
    int32x4_t squares[kPairs][8];
    for (int p = 0; p < kPairs; ++p) {
      for (int v = 0; v < 8; ++v) squares[p][v] = vdupq_n_s32(0);
    }
    const int8_t* weights = group.weights;
    for (uint32_t i = 0; i < group.count; ++i) {
      const int8_t* from = x + group.blocks[i] * group.block_bytes;
      int8x16_t in[kPairs];
      for (int p = 0; p < kPairs; ++p) in[p] = vld1q_s8(from + 16 * p);
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        const int8x16_t w = vld1q_s8(weights + 16 * v);
        for (int p = 0; p < kPairs; ++p) {
          squares[p][v] = vmmlaq_s32(squares[p][v], in[p], w);
        }
      }
      weights += kTileOutputs * kInputs;
    }
    // A square has two outputs of one token, then of the other.
    for (int t = 0; t < tokens; ++t) {
      for (int v = 0; v < 4; ++v) {
        const int64x2_t a = vreinterpretq_s64_s32(squares[t / 2][2 * v]);
        const int64x2_t b = vreinterpretq_s64_s32(squares[t / 2][2 * v + 1]);
        sums[t][v] = vreinterpretq_s32_s64(t % 2 == 0 ? vzip1q_s64(a, b)
                                                      : vzip2q_s64(a, b));
      }
    }
  }
};

}  // namespace

void RunTilesI8mm(const void* packed, const Epilogue& epilogue,
                  const Task& task) {
  RunTiles<Matrices>(packed, epilogue, task);
}

}  // namespace tf_pof
