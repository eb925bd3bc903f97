// 1 x 1: two outputs side by side.
#ifndef TF_POF_RUNTIME_CC_INTERLEAVE_PAIRS_AVX512_H_
#define TF_POF_RUNTIME_CC_INTERLEAVE_PAIRS_AVX512_H_

#include "interleave_avx512.h"

namespace tf_pof {

TF_POF_INLINE void DotPair(const uint8_t* panel, const PairQuad* quad,
                           __m512i a[4], __m512i b[4]) {
  __m512i inputs[4];
  LoadQuad(panel, quad->indices[0], inputs);
  Dot(a, inputs, &quad->weights[0]);
  LoadQuad(panel, quad->indices[1], inputs);
  Dot(b, inputs, &quad->weights[1]);
}

// The same of all quads up to `end`, an even number. One statement: where a
// loop begins is worth 5 %, and so is each load right behind its index.
TF_POF_INLINE const PairQuad* DotPairs(const uint8_t* panel,
                                       const PairQuad* quad,
                                       const PairQuad* end, __m512i a[4],
                                       __m512i b[4]) {
  static_assert(sizeof(PairQuad) == 24, "see below");
  if (quad == end) return quad;
  uint64_t i, l;
#define TF_POF_QUAD(indices, weights, s0, s1, s2, s3)    \
  "mov " indices "(%[quad]), %[l]\n\t"                   \
  "movzwl %w[l], %k[i]\n\t"                              \
  "vmovdqa64 (%[panel],%[i],8), %%zmm24\n\t"             \
  "bextr %[second], %[l], %[i]\n\t"                      \
  "vmovdqa64 (%[panel],%[i],8), %%zmm25\n\t"             \
  "bextr %[third], %[l], %[i]\n\t"                       \
  "vmovdqa64 (%[panel],%[i],8), %%zmm26\n\t"             \
  "shr $48, %[l]\n\t"                                    \
  "vmovdqa64 (%[panel],%[l],8), %%zmm27\n\t"             \
  "vpunpcklbw %%zmm25, %%zmm24, %%zmm28\n\t"             \
  "vpunpcklbw %%zmm27, %%zmm26, %%zmm29\n\t"             \
  "vpunpckhbw %%zmm25, %%zmm24, %%zmm30\n\t"             \
  "vpunpckhbw %%zmm27, %%zmm26, %%zmm31\n\t"             \
  "vpunpcklwd %%zmm29, %%zmm28, %%zmm24\n\t"             \
  "vpunpckhwd %%zmm29, %%zmm28, %%zmm25\n\t"             \
  "vpunpcklwd %%zmm31, %%zmm30, %%zmm26\n\t"             \
  "vpunpckhwd %%zmm31, %%zmm30, %%zmm27\n\t"             \
  "vpbroadcastd " weights "(%[quad]), %%zmm28\n\t"       \
  "vpdpbusd %%zmm28, %%zmm24, %[" s0 "]\n\t"             \
  "vpdpbusd %%zmm28, %%zmm25, %[" s1 "]\n\t"             \
  "vpdpbusd %%zmm28, %%zmm26, %[" s2 "]\n\t"             \
  "vpdpbusd %%zmm28, %%zmm27, %[" s3 "]\n\t"
  asm volatile(".p2align 6\n1:\n\t"
               TF_POF_QUAD("0", "16", "a0", "a1", "a2", "a3")
               TF_POF_QUAD("8", "20", "b0", "b1", "b2", "b3")
               TF_POF_QUAD("24", "40", "a0", "a1", "a2", "a3")
               TF_POF_QUAD("32", "44", "b0", "b1", "b2", "b3")
               "add $48, %[quad]\n\t"
               "cmp %[end], %[quad]\n\t"
               "jne 1b"
               : [quad] "+r"(quad), [i] "=&r"(i), [l] "=&r"(l),
                 [a0] "+v"(a[0]), [a1] "+v"(a[1]), [a2] "+v"(a[2]),
                 [a3] "+v"(a[3]), [b0] "+v"(b[0]), [b1] "+v"(b[1]),
                 [b2] "+v"(b[2]), [b3] "+v"(b[3])
               : [panel] "r"(panel), [end] "r"(end),
                 [second] "r"(uint64_t{0x1010}), [third] "r"(uint64_t{0x1020})
               : "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
                 "xmm30", "xmm31", "cc", "memory");
#undef TF_POF_QUAD
  return quad;
}

// Four sums to bytes as Scale and Narrow do, bounded. One statement, for its
// place among dot products.
TF_POF_INLINE void PinnedFinish(const __m512i sums[4], const float* scale,
                                __m512i zero_point, uint8_t* to) {
  __m512i a = sums[0], b = sums[1], c = sums[2], d = sums[3], scales;
  asm volatile(
      "vbroadcastss %[scale], %[f]\n\t"
      "vcvtdq2ps %[a], %[a]\n\t"
      "vcvtdq2ps %[b], %[b]\n\t"
      "vcvtdq2ps %[c], %[c]\n\t"
      "vcvtdq2ps %[d], %[d]\n\t"
      "vmulps %[f], %[a], %[a]\n\t"
      "vmulps %[f], %[b], %[b]\n\t"
      "vmulps %[f], %[c], %[c]\n\t"
      "vmulps %[f], %[d], %[d]\n\t"
      "vcvtps2dq %[a], %[a]\n\t"
      "vcvtps2dq %[b], %[b]\n\t"
      "vcvtps2dq %[c], %[c]\n\t"
      "vcvtps2dq %[d], %[d]\n\t"
      "vpackssdw %[b], %[a], %[a]\n\t"
      "vpackssdw %[d], %[c], %[c]\n\t"
      "vpaddsw %[z], %[a], %[a]\n\t"
      "vpaddsw %[z], %[c], %[c]\n\t"
      "vpackuswb %[c], %[a], %[a]"
      : [f] "=&v"(scales), [a] "+v"(a), [b] "+v"(b), [c] "+v"(c), [d] "+v"(d)
      : [scale] "m"(*scale), [z] "v"(zero_point));
  _mm512_store_si512(to, a);
}

// Computes all groups. As in interleave_blocks_avx512.h, a pair is requantized
// between the first dot products of the next, where it waits for nobody.
__attribute__((noinline)) static void RunPairsToInt8(UnitToInt8 unit,
                                                     const InterleaveGroup* g,
                                                     const uint8_t* stream) {
  auto* quad = reinterpret_cast<const PairQuad*>(stream);
  alignas(64) uint8_t unused[2 * kPanelTokens];
  __m512i late_a[4], late_b[4];
  Fill(late_a, 0);
  Fill(late_b, 0);
  const float* scale_a = unit.scales;
  const float* scale_b = unit.scales;
  uint8_t* to_a = unused;
  uint8_t* to_b = unused + kPanelTokens;
  for (; g != unit.groups_end; ++g) {
    __m512i a[4], b[4];
    const bool two = g->second != kNoOutput;
    const int second = two ? g->second : g->first;
    Fill(a, unit.bias[g->first]);
    Fill(b, unit.bias[second]);
    Prefetch(stream, g->quads * sizeof(PairQuad));
    stream += g->quads * sizeof(PairQuad);
    const PairQuad* end = quad + g->quads;
    if (quad != end) DotPair(unit.panel, quad++, a, b);
    PinnedFinish(late_a, scale_a, unit.zero_point, to_a);
    if (quad != end) DotPair(unit.panel, quad++, a, b);
    PinnedFinish(late_b, scale_b, unit.zero_point, to_b);
    if ((end - quad) % 2 != 0) DotPair(unit.panel, quad++, a, b);
    quad = DotPairs(unit.panel, quad, end, a, b);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      late_a[i] = a[i];
      late_b[i] = b[i];
    }
    scale_a = unit.scales + g->first;
    scale_b = unit.scales + second;
    to_a = unit.to + g->first * kPanelTokens;
    to_b = two ? unit.to + second * kPanelTokens : unused;
  }
  PinnedFinish(late_a, scale_a, unit.zero_point, to_a);
  PinnedFinish(late_b, scale_b, unit.zero_point, to_b);
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_INTERLEAVE_PAIRS_AVX512_H_
