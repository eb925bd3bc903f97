// The vectors of vector_scalar.h on AVX512-VNNI: one register each.
#ifndef TF_POF_RUNTIME_CC_VECTOR_AVX512_H_
#define TF_POF_RUNTIME_CC_VECTOR_AVX512_H_

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "buffer.h"
#include "transpose_avx512.h"

namespace tf_pof {
namespace {

struct Vector {
  using Float = __m512;
  using Int = __m512i;
  using Short = __m512i;
  using Unaligned = __m512i_u;

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
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int (&x)[4]) {
    const Int bytes = _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]),
                                         _mm512_packs_epi32(x[2], x[3]));
    const Int order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, bytes));
  }
  TF_POF_INLINE Int LoadPanel(const uint8_t* from) {
    return _mm512_cvtepu8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  TF_POF_INLINE void StorePanel(uint8_t* to, const Int (&x)[4]) {
    const Int bytes = _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]),
                                         _mm512_packs_epi32(x[2], x[3]));
    const Int order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(to,
                        _mm512_xor_si512(_mm512_permutexvar_epi32(order, bytes),
                                         _mm512_set1_epi8(-128)));
  }
  TF_POF_INLINE void StoreShort(int16_t* to, Short x) {
    _mm512_storeu_si512(to, x);
  }
  TF_POF_INLINE void StorePairs(int16_t* to, const int8_t* a, const int8_t* b) {
    const Int pairs = _mm512_mask_blend_epi16(
        0xAAAAAAAA, LoadInt8(a), _mm512_slli_epi32(LoadInt8(b), 16));
    _mm512_storeu_si512(to, pairs);
  }

  TF_POF_INLINE Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
  TF_POF_INLINE Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  TF_POF_INLINE Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  TF_POF_INLINE Float Div(Float a, Float b) { return _mm512_div_ps(a, b); }
  TF_POF_INLINE Float Sqrt(Float x) { return _mm512_sqrt_ps(x); }
  TF_POF_INLINE Float Fma(Float a, Float b, Float c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  TF_POF_INLINE Float Min(Float a, Float b) { return _mm512_min_ps(a, b); }
  TF_POF_INLINE Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }
  TF_POF_INLINE Int AddInt(Int a, Int b) { return _mm512_add_epi32(a, b); }
  TF_POF_INLINE Float ToFloat(Int x) { return _mm512_cvtepi32_ps(x); }
  TF_POF_INLINE Int Round(Float x) { return _mm512_cvtps_epi32(x); }
  TF_POF_INLINE Int ToFixed(Float x) { return _mm512_cvtps_epi32(x); }
  TF_POF_INLINE Int MulInt(Int a, Int b) { return _mm512_mullo_epi32(a, b); }

  TF_POF_INLINE Short SetShort(uint16_t x) {
    return _mm512_set1_epi16(static_cast<int16_t>(x));
  }
  TF_POF_INLINE Short LowHalves(Int a, Int b) {
    return _mm512_mask_blend_epi16(0xAAAAAAAA, a, _mm512_slli_epi32(b, 16));
  }
  TF_POF_INLINE Short HighHalves(Int a, Int b) {
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(a, 16), b);
  }
  TF_POF_INLINE Short SubShort(Short a, Short b) {
    return _mm512_sub_epi16(a, b);
  }
  TF_POF_INLINE Short MulHigh(Short a, Short b) {
    return _mm512_mulhi_epu16(a, b);
  }
  TF_POF_INLINE Short ShiftRight(Short x, Short counts) {
    return _mm512_srlv_epi16(x, counts);
  }
  TF_POF_INLINE Short Halve(Short x) {
    return _mm512_avg_epu16(x, _mm512_setzero_si512());
  }
  TF_POF_INLINE Int AddPairs(Int sums, Short x) {
    return _mm512_dpwssd_epi32(sums, x, _mm512_set1_epi16(1));
  }

  // Weigher of attention_vector.h in one statement: left to itself, gcc 12
  // makes constants and addresses anew for each row.
#define TF_POF_WEIGHS
  struct Weigher {
    Short term0, term1, term2, term3, term4, ones;

    // Loads: gcc 12 would make each in a general register first.
    TF_POF_INLINE_MEMBER explicit Weigher(const uint16_t (&terms)[6])
        : term0(LoadAll(terms)),
          term1(LoadAll(terms + 1)),
          term2(LoadAll(terms + 2)),
          term3(LoadAll(terms + 3)),
          term4(LoadAll(terms + 4)),
          ones(LoadAll(terms + 5)) {}

    TF_POF_INLINE Short LoadAll(const uint16_t* from) {
      Short all;
      asm("vpbroadcastw %1, %0" : "=v"(all) : "m"(*from));
      return all;
    }

    TF_POF_INLINE_MEMBER void operator()(const float* scores, const Float* most,
                                         int16_t* weights, Int* sums) const {
      Int a, b, fraction;
      asm volatile(
          "vmovaps %[most], %[a]\n\t"
          "vsubps %[second], %[a], %[b]\n\t"
          "vsubps %[first], %[a], %[a]\n\t"
          "vcvtps2dq %[b], %[b]\n\t"
          "vcvtps2dq %[a], %[a]\n\t"
          "vpslld $16, %[b], %[fraction]\n\t"
          "vpblendmw %[fraction], %[a], %[fraction]%{%[odd]%}\n\t"
          "vpsrld $16, %[a], %[a]\n\t"
          "vpblendmw %[b], %[a], %[a]%{%[odd]%}\n\t"
          "vpmulhuw %[fraction], %[t0], %[b]\n\t"
          "vpsubw %[b], %[t1], %[b]\n\t"
          "vpmulhuw %[fraction], %[b], %[b]\n\t"
          "vpsubw %[b], %[t2], %[b]\n\t"
          "vpmulhuw %[fraction], %[b], %[b]\n\t"
          "vpsubw %[b], %[t3], %[b]\n\t"
          "vpmulhuw %[fraction], %[b], %[b]\n\t"
          "vpsubw %[b], %[t4], %[b]\n\t"
          "vpsrlvw %[a], %[b], %[b]\n\t"
          "vpxord %[fraction], %[fraction], %[fraction]\n\t"
          "vmovdqa64 %[sums], %[a]\n\t"
          "vpavgw %[fraction], %[b], %[b]\n\t"
          "vmovdqu64 %[b], %[weights]\n\t"
          "vpdpwssd %[ones], %[b], %[a]\n\t"
          "vmovdqa64 %[a], %[sums]"
          : [a] "=&v"(a), [b] "=&v"(b), [fraction] "=&v"(fraction),
            [sums] "+m"(*sums),
            [weights] "=m"(*reinterpret_cast<Unaligned*>(weights))
          : [most] "m"(*most),
            [first] "m"(*reinterpret_cast<const Unaligned*>(scores)),
            [second] "m"(*reinterpret_cast<const Unaligned*>(scores + 16)),
            [t0] "v"(term0), [t1] "v"(term1), [t2] "v"(term2), [t3] "v"(term3),
            [t4] "v"(term4), [ones] "v"(ones),
            [odd] "Yk"(static_cast<__mmask32>(0xAAAAAAAA)));
    }
  };

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
  // In all lanes.
  TF_POF_INLINE Int SumOfAll(Int x) {
    x = _mm512_add_epi32(x, _mm512_shuffle_i64x2(x, x, 0x4E));
    x = _mm512_add_epi32(x, _mm512_shuffle_i64x2(x, x, 0xB1));
    x = _mm512_add_epi32(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC));
    return _mm512_add_epi32(x, _mm512_shuffle_epi32(x, _MM_PERM_CDAB));
  }

  // Groups of 4 channels of 16 keys become vectors, `row_size` bytes apart.
  // Takes heads of 32 and 64 channels; returns how many keys were packed.
#define TF_POF_PACKS_KEYS
  TF_POF_INLINE int PackKeys(const int8_t* from, size_t stride, int sequence,
                             int head_size, int keys, int8_t* to,
                             size_t row_size) {
    if (head_size == 64) {
      for (int k = 0; k < keys; k += 16, to += 64) {
        Int r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          r[i] = _mm512_loadu_si512(from +
                                    tf_pof::Min(k + i, sequence - 1) * stride);
        }
        Transpose32(r);
#pragma GCC unroll 16
        for (int g = 0; g < 16; ++g) {
          _mm512_storeu_si512(to + g * row_size, r[g]);
        }
      }
      return keys;
    }
    if (head_size != 32) return 0;
    const auto load = [=](int k) __attribute__((always_inline)) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(
          from + tf_pof::Min(k, sequence - 1) * stride));
    };
    // The scratch memory has room for two vectors.
    for (int k = 0; k < keys; k += 32, to += 128) {
      Int r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load(k + i)),
                                  load(k + i + 16), 1);
      }
      Transpose32(r);
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        _mm512_storeu_si512(to + g * row_size, r[g]);
        _mm512_storeu_si512(to + g * row_size + 64, r[8 + g]);
      }
    }
    return keys;
  }

  // gcc 12 copies and spills sums unless the instructions are given.
  struct Product {
    static constexpr int kVectors = 4;
    static constexpr int Rows(int vectors) {
      return vectors == 1 ? 12 : vectors == 2 ? 6 : 4;
    }
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
    static constexpr bool PinsLoop(int, int) { return false; }
    TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
      asm volatile("vpdpwssd %2, %1, %0" : "+v"(*sums) : "v"(a), "v"(b));
    }
  };

  struct Quads : Product {
    using SharedElement = uint8_t;
    using OwnElement = int8_t;
    static constexpr int kSize = 4;
    TF_POF_INLINE int Shift(int) { return 128; }
    TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int, uint8_t* to) {
      const Int sign = _mm512_set1_epi8(-128);
      int d = 0;
      for (; d + 64 <= size; d += 64) {
        _mm512_storeu_si512(
            to + d, _mm512_xor_si512(_mm512_loadu_si512(row + d), sign));
      }
      // Masked stores hold up the loads of products.
      if (d + 32 <= size) {
        const auto half = reinterpret_cast<const __m256i*>(row + d);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + d),
                            _mm256_xor_si256(_mm256_loadu_si256(half),
                                             _mm512_castsi512_si256(sign)));
        d += 32;
      }
      if (d == size) return;
      const __mmask64 left = ~__mmask64{0} >> (64 - (size - d));
      _mm512_mask_storeu_epi8(
          to + d, left,
          _mm512_xor_si512(_mm512_maskz_loadu_epi8(left, row + d), sign));
    }
    TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(a), "v"(b));
    }

    // AddProducts() of attention_scores_vector.h in one statement: gcc 12
    // copies so few sums before and behind each instruction of a loop.
#define TF_POF_PINS_LOOPS
    static constexpr bool PinsLoop(int rows, int vectors) {
      return rows == 4 && vectors == 2;
    }
    TF_POF_INLINE void AddProducts(const uint8_t* shared, size_t shared_stride,
                                   const uint8_t* own, size_t own_stride,
                                   int groups, Int (&sums)[4][2]) {
      const uint8_t* end = shared + 4 * groups;
      Int first, second, group;
      // clang-format off
#define TF_POF_ROW(place, a, b)               \
  "vpbroadcastd (" place "), %[group]\n\t"    \
  "vpdpbusd %[first], %[group], %[" a "]\n\t" \
  "vpdpbusd %[second], %[group], %[" b "]\n\t"
      // clang-format on
      asm volatile(".p2align 5\n1:\n\t"
                   "vmovdqa64 (%[own]), %[first]\n\t"
                   "vmovdqa64 64(%[own]), %[second]\n\t"  //
                   TF_POF_ROW("%[shared]", "a0", "b0")
                       TF_POF_ROW("%[shared],%[stride]", "a1", "b1")
                           TF_POF_ROW("%[shared],%[stride],2", "a2", "b2")
                               TF_POF_ROW("%[shared],%[stride3]", "a3", "b3")
                   "add $4, %[shared]\n\t"
                   "add %[own_stride], %[own]\n\t"
                   "cmp %[end], %[shared]\n\t"
                   "jne 1b"
                   : [shared] "+r"(shared), [own] "+r"(own),
                     [first] "=&v"(first), [second] "=&v"(second),
                     [group] "=&v"(group), [a0] "+v"(sums[0][0]),
                     [b0] "+v"(sums[0][1]), [a1] "+v"(sums[1][0]),
                     [b1] "+v"(sums[1][1]), [a2] "+v"(sums[2][0]),
                     [b2] "+v"(sums[2][1]), [a3] "+v"(sums[3][0]),
                     [b3] "+v"(sums[3][1])
                   : [stride] "r"(shared_stride),
                     [stride3] "r"(3 * shared_stride),
                     [own_stride] "r"(own_stride), [end] "r"(end)
                   : "cc", "memory");
#undef TF_POF_ROW
    }
  };
  using Scores = Quads;
};

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_VECTOR_AVX512_H_
