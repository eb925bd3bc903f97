// The unstructured "interleave" kernel on 256-bit vectors, with AVX-VNNI or
// with AVX2 alone.
//
// 32 tokens at a time. AVX-VNNI does what interleave_avx512.cc does. AVX2 has
// no dot product of bytes that would not saturate: it widens pairs of inputs
// to 16 bits and multiplies those.
#include <immintrin.h>

#include "interleave.h"
#include "kernels_x86.h"

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

constexpr int kTokens = 32;

// In a struct, where alignment is part of the type also for templates.
struct Sums {
  // Vector v has, in each 128-bit lane L, tokens 16 L + 4 v to 16 L + 4 v + 3.
  __m256i v[4];
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

TF_POF_INLINE __m256i Broadcast(uint32_t value) {
  return _mm256_set1_epi32(static_cast<int32_t>(value));
}

struct Vnni {
  // One statement: gcc 12 keeps too much in registers between single ones, and
  // compilers know the dot product only for processors that all have it.
  TF_POF_INLINE void Quad(const uint8_t* panel, uint64_t indices,
                          uint32_t weights, Sums* sums) {
    const __m256i w = Broadcast(weights);
    __m256i a, b, c, d, s, t;
    asm volatile(
        "vmovdqa (%[panel],%[i0],8), %[a]\n\t"
        "vmovdqa (%[panel],%[i1],8), %[b]\n\t"
        "vmovdqa (%[panel],%[i2],8), %[c]\n\t"
        "vmovdqa (%[panel],%[i3],8), %[d]\n\t"
        "vpunpcklbw %[b], %[a], %[t]\n\t"
        "vpunpcklbw %[d], %[c], %[s]\n\t"
        "vpunpckhbw %[b], %[a], %[a]\n\t"
        "vpunpckhbw %[d], %[c], %[c]\n\t"
        "vpunpcklwd %[s], %[t], %[b]\n\t"
        "vpunpckhwd %[s], %[t], %[t]\n\t"
        "vpunpcklwd %[c], %[a], %[d]\n\t"
        "vpunpckhwd %[c], %[a], %[a]\n\t"
        "%{vex%} vpdpbusd %[w], %[b], %[s0]\n\t"
        "%{vex%} vpdpbusd %[w], %[t], %[s1]\n\t"
        "%{vex%} vpdpbusd %[w], %[d], %[s2]\n\t"
        "%{vex%} vpdpbusd %[w], %[a], %[s3]"
        : [a] "=&x"(a), [b] "=&x"(b), [c] "=&x"(c), [d] "=&x"(d), [t] "=&x"(t),
          [s] "=&x"(s), [s0] "+x"(sums->v[0]), [s1] "+x"(sums->v[1]),
          [s2] "+x"(sums->v[2]), [s3] "+x"(sums->v[3])
        : [panel] "r"(panel), [i0] "r"(Index(indices, 0)),
          [i1] "r"(Index(indices, 1)), [i2] "r"(Index(indices, 2)),
          [i3] "r"(Index(indices, 3)), [w] "x"(w));
  }
};

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

  TF_POF_INLINE void Quad(const uint8_t* panel, uint64_t indices,
                          uint32_t weights, Sums* sums) {
    // The four weights as 16 bits each, twice in a lane.
    const __m128i wide = _mm_cvtepi8_epi16(_mm_cvtsi32_si128(weights));
    Pair(panel, indices, 0, _mm256_broadcastd_epi32(wide), sums);
    Pair(panel, indices, 2, _mm256_broadcastd_epi32(_mm_srli_epi64(wide, 32)),
         sums);
  }
};

TF_POF_INLINE __m256i Scale(__m256i value, __m256 scale) {
  const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(value), scale);
  return _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(32767.0f)));
}

// Stores 32 tokens of output n to `row`, that of the task's panel.
void Finish(const Sums& sums, const Epilogue& epilogue, int n, size_t row,
            int half, void* output) {
  const size_t at = row * kPanelTokens + half * kTokens;
  const __m256 scale = _mm256_set1_ps(epilogue.scales[n]);
  if (epilogue.type != kTfPofInt8) {
    auto* to = static_cast<int32_t*>(output) + at;
    for (int v = 0; v < 4; ++v) {
      __m256i value = sums.v[v];
      if (epilogue.type == kTfPofFloat32) {
        value = _mm256_castps_si256(
            _mm256_mul_ps(_mm256_cvtepi32_ps(value), scale));
      }
      _mm_store_si128(reinterpret_cast<__m128i*>(to + 4 * v),
                      _mm256_castsi256_si128(value));
      _mm_store_si128(reinterpret_cast<__m128i*>(to + 16 + 4 * v),
                      _mm256_extracti128_si256(value, 1));
    }
    return;
  }
  const __m256i zero_point =
      _mm256_set1_epi16(static_cast<int16_t>(epilogue.zero_point + 128));
  const __m256i low = _mm256_adds_epi16(
      _mm256_packs_epi32(Scale(sums.v[0], scale), Scale(sums.v[1], scale)),
      zero_point);
  const __m256i high = _mm256_adds_epi16(
      _mm256_packs_epi32(Scale(sums.v[2], scale), Scale(sums.v[3], scale)),
      zero_point);
  auto* to = static_cast<uint8_t*>(output) + at;
  _mm256_store_si256(reinterpret_cast<__m256i*>(to),
                     _mm256_packus_epi16(low, high));
  if (epilogue.table == nullptr) return;
  for (int t = 0; t < kTokens; ++t) to[t] = epilogue.table[to[t]];
}

// One unit in one tile, for half a panel.
struct Part {
  const Interleaved* packed;
  const Epilogue* epilogue;
  const uint8_t* panel;  // of the tile and half
  int tile;
  int unit;
  int half;
  size_t row;      // of the unit's first output in the task
  void* output;    // the task's
  int32_t* spill;  // [outputs of the task, 2 halves, 32], sums between tiles
};

TF_POF_INLINE __m256i* Spill(const Part& p, int output_in_unit) {
  return reinterpret_cast<__m256i*>(
      p.spill + (p.row + output_in_unit) * kPanelTokens + p.half * kTokens);
}

TF_POF_INLINE Sums Begin(const Part& p, int output_in_unit) {
  Sums sums;
  for (int v = 0; v < 4; ++v) {
    sums.v[v] = p.tile == 0
                    ? _mm256_set1_epi32(
                          p.packed->bias.data[p.unit * kUnit + output_in_unit])
                    : _mm256_load_si256(Spill(p, output_in_unit) + v);
  }
  return sums;
}

TF_POF_INLINE void End(const Part& p, int output_in_unit, const Sums& sums) {
  if (p.tile == p.packed->tiles - 1) {
    Finish(sums, *p.epilogue, p.unit * kUnit + output_in_unit,
           p.row + output_in_unit, p.half, p.output);
    return;
  }
  for (int v = 0; v < 4; ++v) {
    _mm256_store_si256(Spill(p, output_in_unit) + v, sums.v[v]);
  }
}

// All quads of one of a pair's outputs. The sums' address is not taken here, or
// gcc would store them at every step.
template <typename Isa, int output>
TF_POF_INLINE Sums RunQuads(const uint8_t* panel, const PairQuad* quad,
                            const PairQuad* end, Sums sums) {
  for (; quad != end; ++quad) {
    Isa::Quad(panel, quad->indices[output], quad->weights[output], &sums);
  }
  return sums;
}

template <typename Isa>
void RunPart(const Part& part) {
  const Interleaved& p = *part.packed;
  const size_t at = static_cast<size_t>(part.tile) * p.units + part.unit;
  auto* quad =
      reinterpret_cast<const PairQuad*>(p.stream.data + p.first_byte.data[at]);
  for (uint32_t i = p.first_group.data[at]; i < p.first_group.data[at + 1];
       ++i) {
    const InterleaveGroup& group = p.groups.data[i];
    const PairQuad* end = quad + group.quads;
    End(part, group.first,
        RunQuads<Isa, 0>(part.panel, quad, end, Begin(part, group.first)));
    if (group.second != kNoOutput) {
      End(part, group.second,
          RunQuads<Isa, 1>(part.panel, quad, end, Begin(part, group.second)));
    }
    quad = end;
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
        RunPart<Isa>({&p, &epilogue, panel, tile, unit, half,
                      static_cast<size_t>(unit - task.unit_begin) * kUnit,
                      task.output, reinterpret_cast<int32_t*>(task.scratch)});
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
