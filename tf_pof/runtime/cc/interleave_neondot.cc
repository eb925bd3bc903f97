// The "interleave" kernels on Neon with dot products: a quad of 16 tokens is 4
// loads, 8 zips and 4 dot products.
#include "interleave_neon.h"
#include "kernels_arm.h"

namespace tf_pof {
namespace {

TF_POF_INLINE int8x16_t Zip1(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s16(
      vzip1q_s16(vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b)));
}

TF_POF_INLINE int8x16_t Zip2(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s16(
      vzip2q_s16(vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b)));
}

// Quads are interleaved to 4 bytes a token.
struct DotProducts {
  static Quad LoadQuad(const int8_t* panel, uint64_t indices) {
    const int8x16_t a = LoadInput(panel, indices, 0);
    const int8x16_t b = LoadInput(panel, indices, 1);
    const int8x16_t c = LoadInput(panel, indices, 2);
    const int8x16_t d = LoadInput(panel, indices, 3);
    const int8x16_t low_ab = vzip1q_s8(a, b);
    const int8x16_t low_cd = vzip1q_s8(c, d);
    const int8x16_t high_ab = vzip2q_s8(a, b);
    const int8x16_t high_cd = vzip2q_s8(c, d);
    return {{Zip1(low_ab, low_cd), Zip2(low_ab, low_cd), Zip1(high_ab, high_cd),
             Zip2(high_ab, high_cd)}};
  }

  static void Dot(Sums* sums, const Quad& quad, const uint32_t* weights) {
    const int8x16_t w = vreinterpretq_s8_u32(vld1q_dup_u32(weights));
    for (int v = 0; v < 4; ++v) {
      sums->v[v] = vdotq_s32(sums->v[v], quad.v[v], w);
    }
  }

  // Lanes of one load: to repeat four weights takes a vector unit's time.
  static void DotFour(Sums sums[4], const Quad& quad,
                      const uint32_t weights[4]) {
    const int8x16_t w = vreinterpretq_s8_u32(vld1q_u32(weights));
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      sums[0].v[v] = vdotq_laneq_s32(sums[0].v[v], quad.v[v], w, 0);
      sums[1].v[v] = vdotq_laneq_s32(sums[1].v[v], quad.v[v], w, 1);
      sums[2].v[v] = vdotq_laneq_s32(sums[2].v[v], quad.v[v], w, 2);
      sums[3].v[v] = vdotq_laneq_s32(sums[3].v[v], quad.v[v], w, 3);
    }
  }
};

}  // namespace

void RunInterleavedNeonDot(const void* packed, const Epilogue& epilogue,
                           const Task& task) {
  RunInterleaved<DotProducts>(packed, epilogue, task);
}

}  // namespace tf_pof
