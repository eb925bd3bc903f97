// The "interleave" kernels on Neon without dot products, for processors before
// Armv8.2: pairs of inputs are multiplied to 16 bits, and neighbours added to
// 32, which is exact. 20 instructions for 64 multiplications.
#include "interleave_neon.h"

#include "kernels_arm.h"

namespace tf_pof {
namespace {

// Of a quad's first two inputs tokens 0 to 7 and 8 to 15, two bytes a token;
// then of the others.
struct Products {
  static Quad LoadQuad(const int8_t* panel, uint64_t indices) {
    const int8x16_t a = LoadInput(panel, indices, 0);
    const int8x16_t b = LoadInput(panel, indices, 1);
    const int8x16_t c = LoadInput(panel, indices, 2);
    const int8x16_t d = LoadInput(panel, indices, 3);
    return {
        {vzip1q_s8(a, b), vzip2q_s8(a, b), vzip1q_s8(c, d), vzip2q_s8(c, d)}};
  }

  static void Dot(Sums* sums, const Quad& quad, const uint32_t* weights) {
    for (int pair = 0; pair < 2; ++pair) {
      const int8x16_t w = vreinterpretq_s8_u16(
          vdupq_n_u16(static_cast<uint16_t>(*weights >> (16 * pair))));
      for (int half = 0; half < 2; ++half) {
        const int8x16_t x = quad.v[2 * pair + half];
        int32x4_t* to = sums->v + 2 * half;
        to[0] = vpadalq_s16(to[0], vmull_s8(vget_low_s8(x), vget_low_s8(w)));
        to[1] = vpadalq_s16(to[1], vmull_high_s8(x, w));
      }
    }
  }

  static void DotFour(Sums sums[4], const Quad& quad,
                      const uint32_t weights[4]) {
    for (int r = 0; r < 4; ++r) Dot(&sums[r], quad, &weights[r]);
  }
};

}  // namespace

void RunInterleavedNeon(const void* packed, const Epilogue& epilogue,
                        const Task& task) {
  RunInterleaved<Products>(packed, epilogue, task);
}

}  // namespace tf_pof
