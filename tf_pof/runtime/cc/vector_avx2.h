// The vectors of vector_scalar.h on AVX2 and FMA, and on AVX-VNNI where the
// compiler may use it: two registers each.
#ifndef TF_POF_RUNTIME_CC_VECTOR_AVX2_H_
#define TF_POF_RUNTIME_CC_VECTOR_AVX2_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "products_avx2.h"

namespace tf_pof {
namespace {

struct Vector {
  struct Float {
    __m256 low, high;
  };
  using Int = Int32;
  struct Short {
    __m256i low, high;
  };

  TF_POF_INLINE __m256i LoadBits(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }
  TF_POF_INLINE void StoreBits(void* to, __m256i x) {
    _mm256_storeu_si256(static_cast<__m256i*>(to), x);
  }
  TF_POF_INLINE __m128i LoadHalfBits(const void* from) {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
  }

  // Part of the instruction that makes them wider.
  TF_POF_INLINE __m128i LoadEight(const void* from) {
    return _mm_loadl_epi64(static_cast<const __m128i*>(from));
  }

  TF_POF_INLINE Float Set(float x) {
    return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
  }
  TF_POF_INLINE Int SetInt(int32_t x) {
    return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
  }
  TF_POF_INLINE Float Load(const float* from) {
    return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  }
  TF_POF_INLINE Int LoadInt(const int32_t* from) {
    return {LoadBits(from), LoadBits(from + 8)};
  }
  TF_POF_INLINE Int LoadInt8(const int8_t* from) {
    return {_mm256_cvtepi8_epi32(LoadEight(from)),
            _mm256_cvtepi8_epi32(LoadEight(from + 8))};
  }
  TF_POF_INLINE void Store(float* to, Float x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
  }
  TF_POF_INLINE void StoreInt(int32_t* to, Int x) {
    StoreBits(to, x.low);
    StoreBits(to + 8, x.high);
  }
  TF_POF_INLINE __m256i ToInt16(Int x) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0xD8);
  }
  TF_POF_INLINE void StoreInt8(int8_t* to, Int x) {
    const __m256i words = ToInt16(x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi16(_mm256_castsi256_si128(words),
                                     _mm256_extracti128_si256(words, 1)));
  }
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int (&x)[4]) {
    for (int i = 0; i < 4; ++i) StoreInt8(to + 16 * i, x[i]);
  }
  TF_POF_INLINE Int LoadPanel(const uint8_t* from) {
    return {_mm256_cvtepu8_epi32(LoadEight(from)),
            _mm256_cvtepu8_epi32(LoadEight(from + 8))};
  }
  TF_POF_INLINE void StorePanel(uint8_t* to, const Int (&x)[4]) {
    const __m256i flip = _mm256_set1_epi8(-128);
    for (int i = 0; i < 4; i += 2) {
      const __m256i bytes = _mm256_permute4x64_epi64(
          _mm256_packs_epi16(ToInt16(x[i]), ToInt16(x[i + 1])), 0xD8);
      StoreBits(to + 16 * i, _mm256_xor_si256(bytes, flip));
    }
  }
  TF_POF_INLINE void StoreShort(int16_t* to, Short x) {
    StoreBits(to, x.low);
    StoreBits(to + 16, x.high);
  }
  TF_POF_INLINE void StorePairs(int16_t* to, const int8_t* a, const int8_t* b) {
    const __m128i x = LoadHalfBits(a), y = LoadHalfBits(b);
    StoreBits(to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y)));
    StoreBits(to + 16, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x, y)));
  }

  TF_POF_INLINE Float Add(Float a, Float b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  TF_POF_INLINE Float Sub(Float a, Float b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  TF_POF_INLINE Float Mul(Float a, Float b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  TF_POF_INLINE Float Div(Float a, Float b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  TF_POF_INLINE Float Sqrt(Float x) {
    return {_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high)};
  }
  TF_POF_INLINE Float Fma(Float a, Float b, Float c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low),
            _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  TF_POF_INLINE Float Min(Float a, Float b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
  }
  TF_POF_INLINE Float Max(Float a, Float b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  TF_POF_INLINE Int AddInt(Int a, Int b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  TF_POF_INLINE Float ToFloat(Int x) {
    return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
  }
  TF_POF_INLINE Int Round(Float x) {
    return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
  }
  TF_POF_INLINE Int ToFixed(Float x) { return Round(x); }
  TF_POF_INLINE Int MulInt(Int a, Int b) {
    return {_mm256_mullo_epi32(a.low, b.low),
            _mm256_mullo_epi32(a.high, b.high)};
  }

  TF_POF_INLINE Short SetShort(uint16_t x) {
    const __m256i v = _mm256_set1_epi16(static_cast<int16_t>(x));
    return {v, v};
  }
  TF_POF_INLINE __m256i LowHalves(__m256i a, __m256i b) {
    return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA);
  }
  TF_POF_INLINE Short LowHalves(Int a, Int b) {
    return {LowHalves(a.low, b.low), LowHalves(a.high, b.high)};
  }
  TF_POF_INLINE __m256i HighHalves(__m256i a, __m256i b) {
    return _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xAA);
  }
  TF_POF_INLINE Short HighHalves(Int a, Int b) {
    return {HighHalves(a.low, b.low), HighHalves(a.high, b.high)};
  }
  TF_POF_INLINE Short SubShort(Short a, Short b) {
    return {_mm256_sub_epi16(a.low, b.low), _mm256_sub_epi16(a.high, b.high)};
  }
  TF_POF_INLINE Short MulHigh(Short a, Short b) {
    return {_mm256_mulhi_epu16(a.low, b.low),
            _mm256_mulhi_epu16(a.high, b.high)};
  }
  // Shifts 32 bits: those of 16 are AVX512's.
  TF_POF_INLINE __m256i ShiftRight(__m256i x, __m256i counts) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low =
        _mm256_srlv_epi32(_mm256_blend_epi16(x, zero, 0xAA),
                          _mm256_blend_epi16(counts, zero, 0xAA));
    const __m256i high = _mm256_srlv_epi32(x, _mm256_srli_epi32(counts, 16));
    return _mm256_blend_epi16(low, high, 0xAA);
  }
  TF_POF_INLINE Short ShiftRight(Short x, Short counts) {
    return {ShiftRight(x.low, counts.low), ShiftRight(x.high, counts.high)};
  }
  TF_POF_INLINE Short Halve(Short x) {
    const __m256i zero = _mm256_setzero_si256();
    return {_mm256_avg_epu16(x.low, zero), _mm256_avg_epu16(x.high, zero)};
  }
  TF_POF_INLINE Int AddPairs(Int sums, Short x) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(sums.low, _mm256_madd_epi16(x.low, ones)),
            _mm256_add_epi32(sums.high, _mm256_madd_epi16(x.high, ones))};
  }

  TF_POF_INLINE float Sum(Float x) {
    const __m256 eight = _mm256_add_ps(x.low, x.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  TF_POF_INLINE float Highest(Float x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  TF_POF_INLINE int32_t SumInt(Int x) {
    const __m256i eight = _mm256_add_epi32(x.low, x.high);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight),
                                       _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
  }
  // In all lanes.
  TF_POF_INLINE Int SumOfAll(Int x) {
    __m256i sum = _mm256_add_epi32(x.low, x.high);
    sum = _mm256_add_epi32(sum, _mm256_permute2x128_si256(sum, sum, 1));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4E));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xB1));
    return {sum, sum};
  }

  // 8 x 8 values of 32 bits.
  TF_POF_INLINE void Transpose32(__m256i (&r)[8]) {
    __m256i t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
      u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
      u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
      u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
      r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
  }

  // 32 bytes, or 16 as 16 bits.
  TF_POF_INLINE __m256i LoadGroups(const int8_t* from, int8_t) {
    return LoadBits(from);
  }
  TF_POF_INLINE __m256i LoadGroups(const int8_t* from, int16_t) {
    return _mm256_cvtepi8_epi16(LoadHalfBits(from));
  }

  // Groups of channels of 16 keys, 32 bits each, become vectors, `row_size`
  // elements apart. Takes heads of whole registers; returns how many keys were
  // packed.
#define TF_POF_PACKS_KEYS
  template <typename Element>
  TF_POF_INLINE int PackKeys(const int8_t* from, size_t stride, int sequence,
                             int head_size, int keys, Element* to,
                             size_t row_size) {
    constexpr int kSize = 4 / sizeof(Element);
    constexpr int kChannels = 8 * kSize;
    if (head_size % kChannels != 0) return 0;
    for (int k = 0; k < keys; k += 8, to += 8 * kSize) {
      const int8_t* rows[8];
      for (int i = 0; i < 8; ++i) {
        rows[i] = from + (k + i < sequence ? k + i : sequence - 1) * stride;
      }
      for (int d = 0; d < head_size; d += kChannels) {
        __m256i r[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) r[i] = LoadGroups(rows[i] + d, Element());
        Transpose32(r);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          StoreBits(to + (d / kSize + i) * row_size, r[i]);
        }
      }
    }
    return keys;
  }

  using Pairs = PairProduct;
#if defined(__AVXVNNI__)
  using Scores = QuadProduct;
#else
  using Scores = PairProduct;
#endif
};

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_VECTOR_AVX2_H_
