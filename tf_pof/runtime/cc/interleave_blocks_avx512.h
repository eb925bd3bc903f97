// 4 x 1 blocks to int8, in one statement.
//
// Requantizing waits for the last dot products of a block, and a processor does
// not look far enough ahead to find those of the next block behind it. So two
// of the outputs are requantized between the last dot products, and two
// between the first ones of the next block. gcc 12 would keep these in memory.
#ifndef TF_POF_RUNTIME_CC_INTERLEAVE_BLOCKS_AVX512_H_
#define TF_POF_RUNTIME_CC_INTERLEAVE_BLOCKS_AVX512_H_

#include "interleave_avx512.h"

namespace tf_pof {

// A quad at `quad`, interleaved, in registers 16 to 19.
#define TF_POF_LOAD                                   \
  "mov (%[quad]), %[l]\n\t"                           \
  "prefetcht0 4096(%[quad])\n\t"                      \
  "movzwl %w[l], %k[i]\n\t"                           \
  "vmovdqa64 (%[panel],%[i],8), %%zmm16\n\t"          \
  "bextr %[second], %[l], %[i]\n\t"                   \
  "vmovdqa64 (%[panel],%[i],8), %%zmm17\n\t"          \
  "bextr %[third], %[l], %[i]\n\t"                    \
  "vmovdqa64 (%[panel],%[i],8), %%zmm18\n\t"          \
  "shr $48, %[l]\n\t"                                 \
  "vmovdqa64 (%[panel],%[l],8), %%zmm19\n\t"          \
  "vpunpcklbw %%zmm17, %%zmm16, %%zmm20\n\t"          \
  "vpunpcklbw %%zmm19, %%zmm18, %%zmm21\n\t"          \
  "vpunpckhbw %%zmm17, %%zmm16, %%zmm22\n\t"          \
  "vpunpckhbw %%zmm19, %%zmm18, %%zmm23\n\t"          \
  "vpunpcklwd %%zmm21, %%zmm20, %%zmm16\n\t"          \
  "vpunpckhwd %%zmm21, %%zmm20, %%zmm17\n\t"          \
  "vpunpcklwd %%zmm23, %%zmm22, %%zmm18\n\t"          \
  "vpunpckhwd %%zmm23, %%zmm22, %%zmm19\n\t"
// Sums of an output, registers `a` to `d`: the first, ...
#define TF_POF_BIAS(output, a, b, c, d)                       \
  "vpbroadcastd " output "(%[bias],%[i],4), %%zmm" a "\n\t"   \
  "vmovdqa64 %%zmm" a ", %%zmm" b "\n\t"                      \
  "vmovdqa64 %%zmm" a ", %%zmm" c "\n\t"                      \
  "vmovdqa64 %%zmm" a ", %%zmm" d "\n\t"
// ... with the quad, ...
#define TF_POF_DOT(weights, a, b, c, d)                       \
  "vpbroadcastd " weights "(%[quad]), %%zmm20\n\t"            \
  "vpdpbusd %%zmm20, %%zmm16, %%zmm" a "\n\t"                 \
  "vpdpbusd %%zmm20, %%zmm17, %%zmm" b "\n\t"                 \
  "vpdpbusd %%zmm20, %%zmm18, %%zmm" c "\n\t"                 \
  "vpdpbusd %%zmm20, %%zmm19, %%zmm" d "\n\t"
// ... and to bytes, which are stored. See Scale and Narrow.
#define TF_POF_FINISH(output, row, a, b, c, d)                \
  "vbroadcastss " output "(%[scales],%[i],4), %%zmm21\n\t"    \
  "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"                      \
  "vcvtdq2ps %%zmm" b ", %%zmm" b "\n\t"                      \
  "vcvtdq2ps %%zmm" c ", %%zmm" c "\n\t"                      \
  "vcvtdq2ps %%zmm" d ", %%zmm" d "\n\t"                      \
  "vmulps %%zmm21, %%zmm" a ", %%zmm" a "\n\t"                \
  "vmulps %%zmm21, %%zmm" b ", %%zmm" b "\n\t"                \
  "vmulps %%zmm21, %%zmm" c ", %%zmm" c "\n\t"                \
  "vmulps %%zmm21, %%zmm" d ", %%zmm" d "\n\t"                \
  "vcvtps2dq %%zmm" a ", %%zmm" a "\n\t"                      \
  "vcvtps2dq %%zmm" b ", %%zmm" b "\n\t"                      \
  "vcvtps2dq %%zmm" c ", %%zmm" c "\n\t"                      \
  "vcvtps2dq %%zmm" d ", %%zmm" d "\n\t"                      \
  "vpackssdw %%zmm" b ", %%zmm" a ", %%zmm" a "\n\t"          \
  "vpackssdw %%zmm" d ", %%zmm" c ", %%zmm" c "\n\t"          \
  "vpaddsw %[zero], %%zmm" a ", %%zmm" a "\n\t"               \
  "vpaddsw %[zero], %%zmm" c ", %%zmm" c "\n\t"               \
  "vpackuswb %%zmm" c ", %%zmm" a ", %%zmm" a "\n\t"          \
  "vmovdqa64 %%zmm" a ", " row "(%[to],%[j])\n\t"
// The block's first output, for the scales, and its row of the panel.
#define TF_POF_PLACE     \
  "mov %[first], %[i]\n\t" \
  "mov %[first], %[j]\n\t" \
  "shl $6, %[j]\n\t"
#define TF_POF_DOT0 TF_POF_DOT("8", "0", "1", "2", "3")
#define TF_POF_DOT1 TF_POF_DOT("12", "4", "5", "6", "7")
#define TF_POF_DOT2 TF_POF_DOT("16", "8", "9", "10", "11")
#define TF_POF_DOT3 TF_POF_DOT("20", "12", "13", "14", "15")
#define TF_POF_QUAD                                                \
  TF_POF_LOAD TF_POF_DOT0 TF_POF_DOT1 TF_POF_DOT2 TF_POF_DOT3      \
  "add $24, %[quad]\n\t"
// Of the block before, in registers of their own.
#define TF_POF_FINISH2 TF_POF_FINISH("8", "128", "24", "25", "26", "27")
#define TF_POF_FINISH3 TF_POF_FINISH("12", "192", "28", "29", "30", "31")

// Computes groups from `group` on, whose quads begin at `*stream`, up to one
// that has fewer than two quads, which it returns, or to the end. What `to`
// has for `group` is undefined if that is returned.
__attribute__((noinline)) static const InterleaveGroup* RunBlocksToInt8(
    const UnitToInt8& unit, const InterleaveGroup* group,
    const uint8_t** stream) {
  static_assert(sizeof(BlockQuad<4>) == 24 && sizeof(InterleaveGroup) == 6,
                "see below");
  const uint8_t* quad = *stream;
  const InterleaveGroup* end = unit.groups_end;
  const __m512i zero_point = unit.zero_point;
  // Before there is a block before, zeros are stored to this one's outputs.
  uint64_t first = group->first;
  uint64_t i, j, l, last;
  asm volatile(
      "vpxorq %%zmm24, %%zmm24, %%zmm24\n\t"
      "vpxorq %%zmm25, %%zmm25, %%zmm25\n\t"
      "vpxorq %%zmm26, %%zmm26, %%zmm26\n\t"
      "vpxorq %%zmm27, %%zmm27, %%zmm27\n\t"
      "vpxorq %%zmm28, %%zmm28, %%zmm28\n\t"
      "vpxorq %%zmm29, %%zmm29, %%zmm29\n\t"
      "vpxorq %%zmm30, %%zmm30, %%zmm30\n\t"
      "vpxorq %%zmm31, %%zmm31, %%zmm31\n\t"
      ".p2align 6\n"
      "1:\n\t"
      "movzwl (%[group]), %k[last]\n\t"
      "cmp $2, %[last]\n\t"
      "jb 5f\n\t"
      "lea (%[last],%[last],2), %[last]\n\t"
      "lea -24(%[quad],%[last],8), %[last]\n\t"
      "movzwl 2(%[group]), %k[i]\n\t"
      TF_POF_BIAS("0", "0", "1", "2", "3")
      TF_POF_BIAS("4", "4", "5", "6", "7")
      TF_POF_BIAS("8", "8", "9", "10", "11")
      TF_POF_BIAS("12", "12", "13", "14", "15")
      TF_POF_LOAD
      TF_POF_DOT0
      TF_POF_DOT1
      TF_POF_PLACE
      TF_POF_FINISH2
      TF_POF_DOT2
      TF_POF_FINISH3
      TF_POF_DOT3
      "movzwl 2(%[group]), %k[first]\n\t"
      "add $24, %[quad]\n\t"
      "testb $1, (%[group])\n\t"
      "jz 2f\n\t"
      TF_POF_QUAD
      "2:\n\t"
      "cmp %[last], %[quad]\n\t"
      "je 4f\n\t"
      ".p2align 6\n"
      "3:\n\t"
      TF_POF_QUAD
      TF_POF_QUAD
      "cmp %[last], %[quad]\n\t"
      "jne 3b\n"
      "4:\n\t"
      TF_POF_LOAD
      TF_POF_DOT0
      TF_POF_DOT1
      TF_POF_DOT2
      TF_POF_PLACE
      TF_POF_FINISH("0", "0", "0", "1", "2", "3")
      TF_POF_DOT3
      TF_POF_FINISH("4", "64", "4", "5", "6", "7")
      "vmovdqa64 %%zmm8, %%zmm24\n\t"
      "vmovdqa64 %%zmm9, %%zmm25\n\t"
      "vmovdqa64 %%zmm10, %%zmm26\n\t"
      "vmovdqa64 %%zmm11, %%zmm27\n\t"
      "vmovdqa64 %%zmm12, %%zmm28\n\t"
      "vmovdqa64 %%zmm13, %%zmm29\n\t"
      "vmovdqa64 %%zmm14, %%zmm30\n\t"
      "vmovdqa64 %%zmm15, %%zmm31\n\t"
      "add $24, %[quad]\n\t"
      "add $6, %[group]\n\t"
      "cmp %[end], %[group]\n\t"
      "jne 1b\n"
      "5:\n\t"
      TF_POF_PLACE
      TF_POF_FINISH2
      TF_POF_FINISH3
      : [quad] "+r"(quad), [group] "+r"(group), [first] "+r"(first),
        [i] "=&r"(i), [j] "=&r"(j), [l] "=&r"(l), [last] "=&r"(last)
      : [panel] "r"(unit.panel), [bias] "r"(unit.bias),
        [scales] "r"(unit.scales), [to] "r"(unit.to),
        [second] "r"(uint64_t{0x1010}), [third] "r"(uint64_t{0x1020}),
        [zero] "m"(zero_point), [end] "m"(end)
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",
        "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
        "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "cc",
        "memory");
  *stream = quad;
  return group;
}

#undef TF_POF_LOAD
#undef TF_POF_BIAS
#undef TF_POF_DOT
#undef TF_POF_FINISH
#undef TF_POF_PLACE
#undef TF_POF_DOT0
#undef TF_POF_DOT1
#undef TF_POF_DOT2
#undef TF_POF_DOT3
#undef TF_POF_QUAD
#undef TF_POF_FINISH2
#undef TF_POF_FINISH3

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_INTERLEAVE_BLOCKS_AVX512_H_
