// The unstructured "interleave" kernel on 256-bit vectors, with AVX-VNNI or
// with AVX2 alone.
//
// 32 tokens at a time. AVX-VNNI does what interleave_avx512.cc does. AVX2 has
// no dot product of bytes that would not saturate: it widens pairs of inputs
// to 16 bits and multiplies those.
#include "interleave.h"
#include "kernels_x86.h"
#include "sums_avx2.h"

namespace tf_pof {
namespace {

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
#define TF_POF_QUAD(output, weights, a, b, c, d)                      \
  "mov 8*" output "(%[quad]), %[l]\n\t"                               \
  "movzwl %w[l], %k[i]\n\t"                                           \
  "mov %k[l], %k[j]\n\t"                                              \
  "shr $16, %k[j]\n\t"                                                \
  "mov %[l], %[k]\n\t"                                                \
  "shr $32, %[k]\n\t"                                                 \
  "movzwl %w[k], %k[k]\n\t"                                           \
  "shr $48, %[l]\n\t"                                                 \
  "vpbroadcastd " weights "(%[quad]), %%ymm14\n\t"                    \
  "vmovdqa (%[panel],%[i],8), %%ymm8\n\t"                             \
  "vmovdqa (%[panel],%[j],8), %%ymm9\n\t"                             \
  "vmovdqa (%[panel],%[k],8), %%ymm10\n\t"                            \
  "vmovdqa (%[panel],%[l],8), %%ymm11\n\t"                            \
  "vpunpcklbw %%ymm9, %%ymm8, %%ymm12\n\t"                            \
  "vpunpcklbw %%ymm11, %%ymm10, %%ymm13\n\t"                          \
  "vpunpckhbw %%ymm9, %%ymm8, %%ymm8\n\t"                             \
  "vpunpckhbw %%ymm11, %%ymm10, %%ymm10\n\t"                          \
  "vpunpcklwd %%ymm13, %%ymm12, %%ymm9\n\t"                           \
  "vpunpckhwd %%ymm13, %%ymm12, %%ymm12\n\t"                          \
  "vpunpcklwd %%ymm10, %%ymm8, %%ymm11\n\t"                           \
  "vpunpckhwd %%ymm10, %%ymm8, %%ymm8\n\t"                            \
  "%{vex%} vpdpbusd %%ymm14, %%ymm9, %[" a "]\n\t"                    \
  "%{vex%} vpdpbusd %%ymm14, %%ymm12, %[" b "]\n\t"                   \
  "%{vex%} vpdpbusd %%ymm14, %%ymm11, %[" c "]\n\t"                   \
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
};

// One unit in one tile, for half a panel.
struct Part {
  const PairQuad* quad;
  const InterleaveGroup* groups;
  const InterleaveGroup* groups_end;
  const uint8_t* panel;  // of the tile and half
  SumsPlace place;
};

// Takes copies: what is stored might be anywhere for all that compilers know.
template <typename Isa>
__attribute__((noinline)) void RunPart(Part p, Epilogue epilogue) {
  for (const InterleaveGroup* g = p.groups; g != p.groups_end; ++g) {
    const PairQuad* end = p.quad + g->quads;
    const bool two = g->second != kNoOutput;
    Sums first = Begin(p.place, g->first);
    Sums second = two ? Begin(p.place, g->second) : Sums();
    Isa::RunQuads(p.panel, p.quad, end, two, &first, &second);
    End(p.place, epilogue, g->first, first);
    if (two) End(p.place, epilogue, g->second, second);
    p.quad = end;
  }
}

template <typename Isa>
void Run(const void* packed, const Epilogue& epilogue, const Task& task) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  for (int half = 0; half < 2; ++half) {
    for (int tile = 0; tile < p.tiles; ++tile) {
      const uint8_t* panel =
          static_cast<const uint8_t*>(task.input) + half * kTokens +
          static_cast<size_t>(tile) * p.tile_inputs * kPanelTokens;
      for (int unit = task.unit_begin; unit < task.unit_end; ++unit) {
        const size_t at = static_cast<size_t>(tile) * p.units + unit;
        const size_t row = static_cast<size_t>(unit - task.unit_begin) * kUnit;
        RunPart<Isa>({reinterpret_cast<const PairQuad*>(p.stream.data +
                                                        p.first_byte.data[at]),
                      p.groups.data + p.first_group.data[at],
                      p.groups.data + p.first_group.data[at + 1],
                      panel,
                      {p.bias.data + unit * kUnit,
                       epilogue.scales + unit * kUnit, tile == 0,
                       tile == p.tiles - 1,
                       row * kPanelTokens + half * kTokens, task.output,
                       reinterpret_cast<int32_t*>(task.scratch)}},
                     epilogue);
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
