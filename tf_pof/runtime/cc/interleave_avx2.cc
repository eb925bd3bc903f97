// The "interleave" kernels on 256-bit vectors, unstructured and 4x1, with
// AVX-VNNI or with AVX2 alone.
//
// 32 tokens at a time. AVX-VNNI does what interleave_avx512.cc does. AVX2 has
// no dot product of bytes that would not saturate: it widens pairs of inputs
// to 16 bits and multiplies those. The sums of four outputs do not fit into the
// registers: a block's list is gone through twice, for half of the tokens each.
#include "interleave.h"
#include "kernels_x86.h"
#include "sums_avx2.h"

namespace tf_pof {
namespace {

// A quad's indices, to the registers i, j, k and l.
#define TF_POF_INDICES(at)        \
  "mov " at "(%[quad]), %[l]\n\t" \
  "movzwl %w[l], %k[i]\n\t"       \
  "mov %k[l], %k[j]\n\t"          \
  "shr $16, %k[j]\n\t"            \
  "mov %[l], %[k]\n\t"            \
  "shr $32, %[k]\n\t"             \
  "movzwl %w[k], %k[k]\n\t"       \
  "shr $48, %[l]\n\t"

// What a loop over the quads of a block of four outputs has besides: two
// vectors of each output's sums.
#define TF_POF_BLOCK_SUMS(at)                                 \
  [a0] "+x"(sums[0].v[at]), [a1] "+x"(sums[0].v[at + 1]),     \
      [b0] "+x"(sums[1].v[at]), [b1] "+x"(sums[1].v[at + 1]), \
      [c0] "+x"(sums[2].v[at]), [c1] "+x"(sums[2].v[at + 1]), \
      [d0] "+x"(sums[3].v[at]), [d1] "+x"(sums[3].v[at + 1])

struct Vnni {
  // All quads of two outputs, in one statement: gcc 12 keeps too much in
  // registers between single ones, compilers know the dot product only for
  // processors that all have it, and where a loop begins is worth 5 %.
  TF_POF_INLINE void RunQuads(const uint8_t* panel, const PairQuad* quad,
                              const PairQuad* end, bool, Sums* first,
                              Sums* second) {
    static_assert(sizeof(PairQuad) == 24, "see below");
    if (quad == end) return;
    uint64_t i, j, k, l;
#define TF_POF_QUAD(output, weights, a, b, c, d)    \
  TF_POF_INDICES("8*" output)                       \
  "vpbroadcastd " weights "(%[quad]), %%ymm14\n\t"  \
  "vmovdqa (%[panel],%[i],8), %%ymm8\n\t"           \
  "vmovdqa (%[panel],%[j],8), %%ymm9\n\t"           \
  "vmovdqa (%[panel],%[k],8), %%ymm10\n\t"          \
  "vmovdqa (%[panel],%[l],8), %%ymm11\n\t"          \
  "vpunpcklbw %%ymm9, %%ymm8, %%ymm12\n\t"          \
  "vpunpcklbw %%ymm11, %%ymm10, %%ymm13\n\t"        \
  "vpunpckhbw %%ymm9, %%ymm8, %%ymm8\n\t"           \
  "vpunpckhbw %%ymm11, %%ymm10, %%ymm10\n\t"        \
  "vpunpcklwd %%ymm13, %%ymm12, %%ymm9\n\t"         \
  "vpunpckhwd %%ymm13, %%ymm12, %%ymm12\n\t"        \
  "vpunpcklwd %%ymm10, %%ymm8, %%ymm11\n\t"         \
  "vpunpckhwd %%ymm10, %%ymm8, %%ymm8\n\t"          \
  "%{vex%} vpdpbusd %%ymm14, %%ymm9, %[" a "]\n\t"  \
  "%{vex%} vpdpbusd %%ymm14, %%ymm12, %[" b "]\n\t" \
  "%{vex%} vpdpbusd %%ymm14, %%ymm11, %[" c "]\n\t" \
  "%{vex%} vpdpbusd %%ymm14, %%ymm8, %[" d "]\n\t"
    asm volatile(".p2align 6\n1:\n\t"  //
                 TF_POF_QUAD("0", "16", "a0", "a1", "a2", "a3")
                     TF_POF_QUAD("1", "20", "b0", "b1", "b2", "b3")
                 "add $24, %[quad]\n\t"
                 "cmp %[end], %[quad]\n\t"
                 "jne 1b"
                 : [quad] "+r"(quad), [i] "=&r"(i), [j] "=&r"(j),
                   [k] "=&r"(k), [l] "=&r"(l), [a0] "+x"(first->v[0]),
                   [a1] "+x"(first->v[1]), [a2] "+x"(first->v[2]),
                   [a3] "+x"(first->v[3]), [b0] "+x"(second->v[0]),
                   [b1] "+x"(second->v[1]), [b2] "+x"(second->v[2]),
                   [b3] "+x"(second->v[3])
                 : [panel] "r"(panel), [end] "r"(end)
                 : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                   "cc", "memory");
#undef TF_POF_QUAD
  }

  // All quads of a block, for vectors `v` and v + 1 of its sums: v is 0 or 2.
  template <int v>
  TF_POF_INLINE void RunBlock(const uint8_t* panel, const BlockQuad<4>* quad,
                              const BlockQuad<4>* end, Sums* sums) {
    static_assert(sizeof(BlockQuad<4>) == 24, "see below");
    uint64_t i, j, k, l;
#define TF_POF_DOT(weights, w, a, b)                \
  "vpbroadcastd " weights "(%[quad]), %%" w "\n\t"  \
  "%{vex%} vpdpbusd %%" w ", %%ymm10, %[" a "]\n\t" \
  "%{vex%} vpdpbusd %%" w ", %%ymm11, %[" b "]\n\t"
#define TF_POF_BLOCK(half)                                           \
  asm volatile(                                                      \
      ".p2align 6\n1:\n\t"                                           \
      TF_POF_INDICES("0")                                            \
      "vmovdqa (%[panel],%[i],8), %%ymm8\n\t"                        \
      "vmovdqa (%[panel],%[k],8), %%ymm9\n\t"                        \
      "vpunpck" half "bw (%[panel],%[j],8), %%ymm8, %%ymm8\n\t"      \
      "vpunpck" half "bw (%[panel],%[l],8), %%ymm9, %%ymm9\n\t"      \
      "vpunpcklwd %%ymm9, %%ymm8, %%ymm10\n\t"                       \
      "vpunpckhwd %%ymm9, %%ymm8, %%ymm11\n\t"                       \
      TF_POF_DOT("8", "ymm12", "a0", "a1")                           \
      TF_POF_DOT("12", "ymm13", "b0", "b1")                          \
      TF_POF_DOT("16", "ymm14", "c0", "c1")                          \
      TF_POF_DOT("20", "ymm15", "d0", "d1")                          \
      "add $24, %[quad]\n\t"                                         \
      "cmp %[end], %[quad]\n\t"                                      \
      "jne 1b"                                                       \
      : [quad] "+r"(quad), [i] "=&r"(i), [j] "=&r"(j), [k] "=&r"(k), \
        [l] "=&r"(l), TF_POF_BLOCK_SUMS(v)                           \
      : [panel] "r"(panel), [end] "r"(end)                           \
      : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
        "xmm15", "cc", "memory")
    if constexpr (v == 0) {
      TF_POF_BLOCK("l");
    } else {
      TF_POF_BLOCK("h");
    }
#undef TF_POF_BLOCK
#undef TF_POF_DOT
  }
};

// gcc masks what is shifted to the end unless it is told so.
TF_POF_INLINE uint64_t Index(uint64_t indices, int i) {
  if (i == 1) return static_cast<uint32_t>(indices) >> 16;
  if (i == 3) return indices >> 48;
  return static_cast<uint16_t>(indices >> (16 * i));
}

TF_POF_INLINE __m256i LoadInput(const uint8_t* panel, uint64_t indices, int i) {
  return _mm256_load_si256(
      reinterpret_cast<const __m256i*>(panel + Index(indices, i) * 8));
}

struct Pairs {
  // Two inputs of the quad, `i` and i + 1; `weights` is 16 bits each.
  TF_POF_INLINE void Pair(const uint8_t* panel, uint64_t indices, int i,
                          __m256i weights, Sums* sums) {
    const __m256i a = LoadInput(panel, indices, i);
    const __m256i b = LoadInput(panel, indices, i + 1);
    const __m256i low = _mm256_unpacklo_epi8(a, b);
    const __m256i high = _mm256_unpackhi_epi8(a, b);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i wide[4] = {
        _mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
        _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
    for (int v = 0; v < 4; ++v) {
      sums->v[v] =
          _mm256_add_epi32(sums->v[v], _mm256_madd_epi16(wide[v], weights));
    }
  }

  // All quads of one of a pair's outputs. The sums' address is not taken here,
  // or gcc would store them at every step.
  template <int output>
  TF_POF_INLINE Sums RunOutput(const uint8_t* panel, const PairQuad* quad,
                               const PairQuad* end, Sums sums) {
    for (; quad != end; ++quad) {
      // The four weights as 16 bits each, twice in a lane.
      const __m128i wide =
          _mm_cvtepi8_epi16(_mm_cvtsi32_si128(quad->weights[output]));
      const uint64_t indices = quad->indices[output];
      Pair(panel, indices, 0, _mm256_broadcastd_epi32(wide), &sums);
      Pair(panel, indices, 2, _mm256_broadcastd_epi32(_mm_srli_epi64(wide, 32)),
           &sums);
    }
    return sums;
  }

  TF_POF_INLINE void RunQuads(const uint8_t* panel, const PairQuad* quad,
                              const PairQuad* end, bool two, Sums* first,
                              Sums* second) {
    *first = RunOutput<0>(panel, quad, end, *first);
    if (two) *second = RunOutput<1>(panel, quad, end, *second);
  }

  // As Vnni's.
  template <int v>
  TF_POF_INLINE void RunBlock(const uint8_t* panel, const BlockQuad<4>* quad,
                              const BlockQuad<4>* end, Sums* sums) {
    static_assert(sizeof(BlockQuad<4>) == 24, "see below");
    uint64_t i, j, k, l;
    alignas(32) int16_t wide[16];  // A quad's weights.
#define TF_POF_MADD(weights, a, b)                 \
  "vpbroadcastd " weights "(%[wide]), %%ymm11\n\t" \
  "vpmaddwd %%ymm11, %%ymm9, %%ymm12\n\t"          \
  "vpmaddwd %%ymm11, %%ymm10, %%ymm13\n\t"         \
  "vpaddd %%ymm12, %[" a "], %[" a "]\n\t"         \
  "vpaddd %%ymm13, %[" b "], %[" b "]\n\t"
#define TF_POF_PAIR(half, x, y, first, second, third, fourth)    \
  "vmovdqa (%[panel],%[" x "],8), %%ymm9\n\t"                    \
  "vpunpck" half "bw (%[panel],%[" y "],8), %%ymm9, %%ymm9\n\t"  \
  "vpunpckhbw %%ymm15, %%ymm9, %%ymm10\n\t"                      \
  "vpunpcklbw %%ymm15, %%ymm9, %%ymm9\n\t"                       \
  TF_POF_MADD(first, "a0", "a1") TF_POF_MADD(second, "b0", "b1") \
  TF_POF_MADD(third, "c0", "c1") TF_POF_MADD(fourth, "d0", "d1")
#define TF_POF_BLOCK(half)                                           \
  asm volatile(                                                      \
      "vpxor %%ymm15, %%ymm15, %%ymm15\n\t"                          \
      ".p2align 6\n1:\n\t"                                           \
      TF_POF_INDICES("0")                                            \
      "vpmovsxbw 8(%[quad]), %%ymm8\n\t"                             \
      "vmovdqa %%ymm8, (%[wide])\n\t"                                \
      TF_POF_PAIR(half, "i", "j", "0", "8", "16", "24")              \
      TF_POF_PAIR(half, "k", "l", "4", "12", "20", "28")             \
      "add $24, %[quad]\n\t"                                         \
      "cmp %[end], %[quad]\n\t"                                      \
      "jne 1b"                                                       \
      : [quad] "+r"(quad), [i] "=&r"(i), [j] "=&r"(j), [k] "=&r"(k), \
        [l] "=&r"(l), TF_POF_BLOCK_SUMS(v)                           \
      : [panel] "r"(panel), [end] "r"(end), [wide] "r"(wide)         \
      : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm15", \
        "cc", "memory")
    if constexpr (v == 0) {
      TF_POF_BLOCK("l");
    } else {
      TF_POF_BLOCK("h");
    }
#undef TF_POF_BLOCK
#undef TF_POF_PAIR
#undef TF_POF_MADD
  }
};

#undef TF_POF_BLOCK_SUMS
#undef TF_POF_INDICES

// One unit in one tile, for half a panel.
struct Part {
  const uint8_t* stream;
  const InterleaveGroup* groups;
  const InterleaveGroup* groups_end;
  const uint8_t* panel;  // of the tile and half
  int outputs;           // of the unit
  SumsPlace place;
};

// Takes copies: what is stored might be anywhere for all that compilers know.
template <typename Isa>
__attribute__((noinline)) void RunPairs(Part p, Epilogue epilogue) {
  auto* quad = reinterpret_cast<const PairQuad*>(p.stream);
  for (const InterleaveGroup* g = p.groups; g != p.groups_end; ++g) {
    const PairQuad* end = quad + g->quads;
    const bool two = g->second != kNoOutput;
    Sums first = Begin(p.place, g->first);
    Sums second = two ? Begin(p.place, g->second) : Sums();
    Isa::RunQuads(p.panel, quad, end, two, &first, &second);
    End(p.place, epilogue, g->first, first);
    if (two) End(p.place, epilogue, g->second, second);
    quad = end;
  }
}

template <typename Isa>
__attribute__((noinline)) void RunBlocks(Part p, Epilogue epilogue) {
  auto* quad = reinterpret_cast<const BlockQuad<4>*>(p.stream);
  for (const InterleaveGroup* g = p.groups; g != p.groups_end; ++g) {
    const BlockQuad<4>* end = quad + g->quads;
    const int used = p.outputs - g->first < 4 ? p.outputs - g->first : 4;
    Sums sums[4];
    for (int r = 0; r < 4; ++r) {
      sums[r] = r < used ? Begin(p.place, g->first + r) : Sums();
    }
    if (quad != end) {
      Isa::template RunBlock<0>(p.panel, quad, end, sums);
      Isa::template RunBlock<2>(p.panel, quad, end, sums);
    }
    for (int r = 0; r < used; ++r) {
      End(p.place, epilogue, g->first + r, sums[r]);
    }
    quad = end;
  }
}

template <typename Isa>
void Run(const void* packed, const Epilogue& epilogue, const Task& task) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  for (int half = 0; half * kTokens < task.tokens; ++half) {
    for (int tile = 0; tile < p.tiles; ++tile) {
      const uint8_t* panel =
          static_cast<const uint8_t*>(task.input) + half * kTokens +
          static_cast<size_t>(tile) * p.tile_inputs * kPanelTokens;
      for (int unit = task.unit_begin; unit < task.unit_end; ++unit) {
        const size_t at = static_cast<size_t>(tile) * p.units + unit;
        const size_t row = static_cast<size_t>(unit - task.unit_begin) * kUnit;
        const int left = p.outputs - unit * kUnit;
        const Part part = {
            p.stream.data + p.first_byte.data[at],
            p.groups.data + p.first_group.data[at],
            p.groups.data + p.first_group.data[at + 1],
            panel,
            left < kUnit ? left : kUnit,
            {p.bias.data + unit * kUnit, epilogue.scales + unit * kUnit,
             tile == 0, tile == p.tiles - 1,
             row * kPanelTokens + half * kTokens, task.output,
             reinterpret_cast<int32_t*>(task.scratch)}};
        (p.rows == 1 ? RunPairs<Isa> : RunBlocks<Isa>)(part, epilogue);
      }
    }
  }
}

}  // namespace

void RunInterleavedAvx2(const void* packed, const Epilogue& epilogue,
                        const Task& task) {
  Run<Pairs>(packed, epilogue, task);
}

void RunInterleavedAvxVnni(const void* packed, const Epilogue& epilogue,
                           const Task& task) {
  Run<Vnni>(packed, epilogue, task);
}

}  // namespace tf_pof
