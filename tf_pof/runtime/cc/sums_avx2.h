// What the 256-bit kernels on panels share: sums of 32 tokens, half a panel.
// Everything is internal to the file that includes it: see Min in buffer.h.
#ifndef TF_POF_RUNTIME_CC_SUMS_AVX2_H_
#define TF_POF_RUNTIME_CC_SUMS_AVX2_H_

#include <immintrin.h>

#include "kernel.h"

#define TF_POF_INLINE static inline __attribute__((always_inline))
#define TF_POF_INLINE_MEMBER inline __attribute__((always_inline))

namespace tf_pof {
namespace {

constexpr int kTokens = 32;

// In a struct, where alignment is part of the type also for templates.
struct Sums {
  // Vector v has, in each 128-bit lane L, tokens 16 L + 4 v to 16 L + 4 v + 3.
  __m256i v[4];
};

// Where the sums of a unit's outputs, in one tile of the inputs and for half a
// panel, come from and go to.
struct SumsPlace {
  const int32_t* bias;  // of the unit
  const float* scales;  // of the unit
  bool first_tile;
  bool last_tile;
  size_t at;       // of the unit's first output and the half in the task
  void* output;    // the task's
  int32_t* spill;  // [outputs of the task, 2 halves, 32], sums between tiles
};

TF_POF_INLINE __m256i Scale(__m256i value, __m256 scale) {
  const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(value), scale);
  return _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(32767.0f)));
}

// 32 sums of 32 bits, or as floats, in the order of the tokens.
__attribute__((noinline, cold)) void FinishWide(__m256i a, __m256i b, __m256i c,
                                                __m256i d, TfPofOutputType type,
                                                float scale, int32_t* to) {
  const __m256i sums[4] = {a, b, c, d};
  for (int v = 0; v < 4; ++v) {
    __m256i value = sums[v];
    if (type == kTfPofFloat32) {
      value = _mm256_castps_si256(
          _mm256_mul_ps(_mm256_cvtepi32_ps(value), _mm256_set1_ps(scale)));
    }
    _mm_store_si128(reinterpret_cast<__m128i*>(to + 4 * v),
                    _mm256_castsi256_si128(value));
    _mm_store_si128(reinterpret_cast<__m128i*>(to + 16 + 4 * v),
                    _mm256_extracti128_si256(value, 1));
  }
}

// Stores 32 tokens of a finished output of the unit.
TF_POF_INLINE void Finish(const SumsPlace& p, const Epilogue& epilogue,
                          int output_in_unit, const Sums& sums) {
  const size_t at = p.at + output_in_unit * kPanelTokens;
  if (__builtin_expect(epilogue.type != kTfPofInt8, 0)) {
    FinishWide(sums.v[0], sums.v[1], sums.v[2], sums.v[3], epilogue.type,
               p.scales[output_in_unit], static_cast<int32_t*>(p.output) + at);
    return;
  }
  const __m256 scale = _mm256_set1_ps(p.scales[output_in_unit]);
  const __m256i zero_point =
      _mm256_set1_epi16(static_cast<int16_t>(epilogue.zero_point + 128));
  const __m256i low = _mm256_adds_epi16(
      _mm256_packs_epi32(Scale(sums.v[0], scale), Scale(sums.v[1], scale)),
      zero_point);
  const __m256i high = _mm256_adds_epi16(
      _mm256_packs_epi32(Scale(sums.v[2], scale), Scale(sums.v[3], scale)),
      zero_point);
  auto* to = static_cast<uint8_t*>(p.output) + at;
  _mm256_store_si256(reinterpret_cast<__m256i*>(to),
                     _mm256_packus_epi16(low, high));
  const uint8_t* table = epilogue.table;
  if (table == nullptr) return;
  for (int t = 0; t < kTokens; ++t) to[t] = table[to[t]];
}

TF_POF_INLINE Sums Begin(const SumsPlace& p, int output_in_unit) {
  if (p.first_tile) {
    const __m256i bias = _mm256_set1_epi32(p.bias[output_in_unit]);
    return {{bias, bias, bias, bias}};
  }
  auto* from = reinterpret_cast<const __m256i*>(p.spill + p.at +
                                                output_in_unit * kPanelTokens);
  return {{_mm256_load_si256(from), _mm256_load_si256(from + 1),
           _mm256_load_si256(from + 2), _mm256_load_si256(from + 3)}};
}

TF_POF_INLINE void End(const SumsPlace& p, const Epilogue& epilogue,
                       int output_in_unit, const Sums& sums) {
  if (p.last_tile) return Finish(p, epilogue, output_in_unit, sums);
  auto* to = reinterpret_cast<__m256i*>(p.spill + p.at +
                                        output_in_unit * kPanelTokens);
  for (int v = 0; v < 4; ++v) _mm256_store_si256(to + v, sums.v[v]);
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_SUMS_AVX2_H_
