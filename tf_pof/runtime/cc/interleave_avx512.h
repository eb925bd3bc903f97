// What the "interleave" kernels on AVX512-VNNI share.
#ifndef TF_POF_RUNTIME_CC_INTERLEAVE_AVX512_H_
#define TF_POF_RUNTIME_CC_INTERLEAVE_AVX512_H_

#include "avx512.h"
#include "interleave.h"

namespace tf_pof {

// Bytes that the stream is fetched ahead: without it layers whose weights
// come from memory take half as long again.
inline constexpr size_t kPrefetch = 4096;

// Sums of 64 tokens are four vectors in the order that unpacking leaves them:
// vector v has, in each of its four 128-bit lanes L, tokens 16 L + 4 v to
// 16 L + 4 v + 3. Nobody takes their address, or gcc would store them at every
// step.
TF_POF_INLINE void Fill(__m512i sums[4], int32_t value) {
  for (int i = 0; i < 4; ++i) sums[i] = _mm512_set1_epi32(value);
}

// Four inputs' panel rows, interleaved: 4 bytes a token, in the order of sums.
TF_POF_INLINE void LoadQuad(const uint8_t* panel, uint64_t indices,
                            __m512i quad[4]) {
  const __m512i a = PinnedLoad8(panel, Bits16<0>(indices));
  const __m512i b = PinnedLoad8(panel, Bits16<1>(indices));
  const __m512i c = PinnedLoad8(panel, Bits16<2>(indices));
  const __m512i d = PinnedLoad8(panel, Bits16<3>(indices));
  const __m512i low_ab = PinnedUnpackLow8(a, b);
  const __m512i low_cd = PinnedUnpackLow8(c, d);
  const __m512i high_ab = PinnedUnpackHigh8(a, b);
  const __m512i high_cd = PinnedUnpackHigh8(c, d);
  quad[0] = PinnedUnpackLow16(low_ab, low_cd);
  quad[1] = PinnedUnpackHigh16(low_ab, low_cd);
  quad[2] = PinnedUnpackLow16(high_ab, high_cd);
  quad[3] = PinnedUnpackHigh16(high_ab, high_cd);
}

// sums += weights (four bytes) times the quad. One statement, because gcc
// copies sums to and fro between single instructions.
TF_POF_INLINE void Dot(__m512i sums[4], const __m512i quad[4],
                       const uint32_t* weights) {
  __m512i w;
  asm volatile(
      "vpbroadcastd %[weights], %[w]\n\t"
      "vpdpbusd %[w], %[q0], %[s0]\n\t"
      "vpdpbusd %[w], %[q1], %[s1]\n\t"
      "vpdpbusd %[w], %[q2], %[s2]\n\t"
      "vpdpbusd %[w], %[q3], %[s3]"
      : [w] "=&v"(w), [s0] "+v"(sums[0]), [s1] "+v"(sums[1]),
        [s2] "+v"(sums[2]), [s3] "+v"(sums[3])
      : [weights] "m"(*weights), [q0] "v"(quad[0]), [q1] "v"(quad[1]),
        [q2] "v"(quad[2]), [q3] "v"(quad[3]));
}

TF_POF_INLINE void Prefetch(const uint8_t* stream, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(stream + kPrefetch + i),
                 _MM_HINT_T0);
  }
}

// A unit whose sums are of all inputs and become int8 without an activation,
// which is what nearly every call is. All from the unit's first output on.
struct UnitToInt8 {
  const uint8_t* panel;
  const InterleaveGroup* groups_end;
  const int32_t* bias;
  const float* scales;
  uint8_t* to;         // [outputs, 64]
  __m512i zero_point;  // PanelZeroPoint
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_INTERLEAVE_AVX512_H_
