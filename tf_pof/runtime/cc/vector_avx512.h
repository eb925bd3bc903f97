// The vectors of vector_scalar.h on AVX512-VNNI: one register each.
#ifndef TF_POF_RUNTIME_CC_VECTOR_AVX512_H_
#define TF_POF_RUNTIME_CC_VECTOR_AVX512_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

struct Vector {
  using Float = __m512;
  using Int = __m512i;

  TF_POF_INLINE Float Set(float x) { return _mm512_set1_ps(x); }
  TF_POF_INLINE Int SetInt(int32_t x) { return _mm512_set1_epi32(x); }
  TF_POF_INLINE Float Load(const float* from) { return _mm512_loadu_ps(from); }
  TF_POF_INLINE Int LoadInt(const int32_t* from) {
    return _mm512_loadu_si512(from);
  }
  TF_POF_INLINE Int LoadInt8(const int8_t* from) {
    return _mm512_cvtepi8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  TF_POF_INLINE void Store(float* to, Float x) { _mm512_storeu_ps(to, x); }
  TF_POF_INLINE void StoreInt(int32_t* to, Int x) {
    _mm512_storeu_si512(to, x);
  }
  TF_POF_INLINE void StoreInt8(int8_t* to, Int x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(x));
  }
  TF_POF_INLINE void StoreInt16(int16_t* to, Int x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtepi32_epi16(x));
  }
  TF_POF_INLINE void StorePairs(int16_t* to, const int8_t* a, const int8_t* b) {
    const Int pairs = _mm512_mask_blend_epi16(
        0xAAAAAAAA, LoadInt8(a), _mm512_slli_epi32(LoadInt8(b), 16));
    _mm512_storeu_si512(to, pairs);
  }

  TF_POF_INLINE Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
  TF_POF_INLINE Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  TF_POF_INLINE Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  TF_POF_INLINE Float Fma(Float a, Float b, Float c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  TF_POF_INLINE Float Min(Float a, Float b) { return _mm512_min_ps(a, b); }
  TF_POF_INLINE Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }
  TF_POF_INLINE Int AddInt(Int a, Int b) { return _mm512_add_epi32(a, b); }
  TF_POF_INLINE Float ToFloat(Int x) { return _mm512_cvtepi32_ps(x); }
  TF_POF_INLINE Int Round(Float x) { return _mm512_cvtps_epi32(x); }
  TF_POF_INLINE Float ScaleByPower(Float x, Float power) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(x),
                         _mm512_slli_epi32(_mm512_castps_si512(power), 23)));
  }

  TF_POF_INLINE float Sum(Float x) {
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  TF_POF_INLINE float Highest(Float x) { return _mm512_reduce_max_ps(x); }
  TF_POF_INLINE int32_t SumInt(Int x) { return _mm512_reduce_add_epi32(x); }

  // gcc 12 copies and spills sums unless the instructions are given.
  struct Product {
    static constexpr int kRows = 6;
    static constexpr int kVectors = 4;
    using Sums = Int;
    using Shared = Int;
    using Own = Int;

    TF_POF_INLINE Shared LoadShared(const void* from) {
      Int group;
      asm volatile("vpbroadcastd %1, %0"
                   : "=v"(group)
                   : "m"(*static_cast<const uint32_t*>(from)));
      return group;
    }
    TF_POF_INLINE Own LoadOwn(const void* from) {
      Int groups;
      asm volatile("vmovdqa64 %1, %0"
                   : "=v"(groups)
                   : "m"(*static_cast<const Int*>(from)));
      return groups;
    }
    TF_POF_INLINE Sums Start(Int x) { return x; }
    TF_POF_INLINE Int Total(Sums sums) { return sums; }
  };

  struct Pairs : Product {
    using SharedElement = int16_t;
    using OwnElement = int16_t;
    static constexpr int kSize = 2;
    TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
      asm volatile("vpdpwssd %2, %1, %0" : "+v"(*sums) : "v"(a), "v"(b));
    }
  };

  struct Quads : Product {
    using SharedElement = uint8_t;
    using OwnElement = int8_t;
    static constexpr int kSize = 4;
    TF_POF_INLINE int Shift(int) { return 128; }
    TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(a), "v"(b));
    }
  };
  using Scores = Quads;
};

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_VECTOR_AVX512_H_
