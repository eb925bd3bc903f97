// Dot products of attention on AVX2, and on AVX-VNNI where the compiler may use
// it.
#ifndef TF_POF_RUNTIME_CC_PRODUCTS_AVX2_H_
#define TF_POF_RUNTIME_CC_PRODUCTS_AVX2_H_

#include <immintrin.h>
#include <stdint.h>

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

// A vector of vector_avx2.h.
struct Int32 {
  __m256i low, high;
};

// AddProducts() of attention_scores_vector.h in one statement, which takes all
// registers: gcc 12 spills some of the sums in a loop of its own. `add`
// multiplies ymm14 by ymm12 and ymm13.
#define TF_POF_PINS_LOOPS
// clang-format off
#define TF_POF_ROW(add, place, row)     \
  "vpbroadcastd " place ", %%ymm14\n\t" \
  add("%[low" row "]", "%[high" row "]")
#define TF_POF_SUMS(row) \
  [low##row] "+x"(sums[row][0].low), [high##row] "+x"(sums[row][0].high)
#define TF_POF_ADD_PRODUCTS(add)                                              \
  TF_POF_INLINE void AddProducts(const uint8_t* shared, size_t shared_stride, \
                                 const uint8_t* own, size_t own_stride,       \
                                 int groups, Int32 (&sums)[6][1]) {           \
    const size_t places[] = {shared_stride, 3 * shared_stride,                \
                             5 * shared_stride, own_stride,                   \
                             reinterpret_cast<size_t>(shared) + 4 * groups};  \
    asm volatile("mov (%[places]), %%rax\n\t"                                 \
                 "mov 8(%[places]), %%rcx\n\t"                                \
                 "mov 16(%[places]), %%rdx\n\t"                               \
                 "mov 24(%[places]), %%rsi\n\t"                               \
                 "mov 32(%[places]), %%rdi\n\t"                               \
                 ".p2align 5\n1:\n\t"                                         \
                 "vmovdqa (%[own]), %%ymm12\n\t"                              \
                 "vmovdqa 32(%[own]), %%ymm13\n\t"                            \
                 TF_POF_ROW(add, "(%[shared])", "0")                          \
                 TF_POF_ROW(add, "(%[shared],%%rax)", "1")                    \
                 TF_POF_ROW(add, "(%[shared],%%rax,2)", "2")                  \
                 TF_POF_ROW(add, "(%[shared],%%rcx)", "3")                    \
                 TF_POF_ROW(add, "(%[shared],%%rax,4)", "4")                  \
                 TF_POF_ROW(add, "(%[shared],%%rdx)", "5")                    \
                 "add $4, %[shared]\n\t"                                      \
                 "add %%rsi, %[own]\n\t"                                      \
                 "cmp %%rdi, %[shared]\n\t"                                   \
                 "jne 1b"                                                     \
                 : [shared] "+r"(shared), [own] "+r"(own), TF_POF_SUMS(0),    \
                   TF_POF_SUMS(1), TF_POF_SUMS(2), TF_POF_SUMS(3),            \
                   TF_POF_SUMS(4), TF_POF_SUMS(5)                             \
                 : [places] "r"(places)                                       \
                 : "rax", "rcx", "rdx", "rsi", "rdi", "xmm12", "xmm13",       \
                   "xmm14", "xmm15", "cc", "memory");                         \
  }
#define TF_POF_ADD_QUADS(low, high)                \
  "%{vex%} vpdpbusd %%ymm12, %%ymm14, " low "\n\t" \
  "%{vex%} vpdpbusd %%ymm13, %%ymm14, " high "\n\t"
#if defined(__AVXVNNI__)
#define TF_POF_ADD_PAIRS(low, high)                \
  "%{vex%} vpdpwssd %%ymm12, %%ymm14, " low "\n\t" \
  "%{vex%} vpdpwssd %%ymm13, %%ymm14, " high "\n\t"
#else
#define TF_POF_ADD_PAIRS(low, high)        \
  "vpmaddwd %%ymm12, %%ymm14, %%ymm15\n\t" \
  "vpmaddwd %%ymm13, %%ymm14, %%ymm14\n\t" \
  "vpaddd %%ymm15, " low ", " low "\n\t"   \
  "vpaddd %%ymm14, " high ", " high "\n\t"
#endif
// clang-format on

// 12 registers of sums, 2 of `own`, one of `shared` and one of a product.
// gcc 12 copies and spills sums unless the instructions are given.
struct Product {
  static constexpr int kVectors = 1;
  static constexpr int Rows(int) { return 6; }
  static constexpr bool PinsLoop(int, int) { return true; }
  using Sums = Int32;
  using Shared = __m256i;
  using Own = Int32;

  TF_POF_INLINE Shared LoadShared(const void* from) {
    __m256i group;
    asm volatile("vpbroadcastd %1, %0"
                 : "=x"(group)
                 : "m"(*static_cast<const uint32_t*>(from)));
    return group;
  }
  TF_POF_INLINE __m256i LoadAligned(const __m256i* from) {
    __m256i groups;
    asm volatile("vmovdqa %1, %0" : "=x"(groups) : "m"(*from));
    return groups;
  }
  TF_POF_INLINE Own LoadOwn(const void* from) {
    const auto* groups = static_cast<const __m256i*>(from);
    return {LoadAligned(groups), LoadAligned(groups + 1)};
  }
  TF_POF_INLINE Sums Start(Int32 x) { return x; }
  TF_POF_INLINE Int32 Total(Sums sums) { return sums; }
};

struct PairProduct : Product {
  using SharedElement = int16_t;
  using OwnElement = int16_t;
  static constexpr int kSize = 2;
  TF_POF_ADD_PRODUCTS(TF_POF_ADD_PAIRS)
  TF_POF_INLINE int Shift(int zero_point) { return -zero_point; }
  TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int zero_point,
                              int16_t* to) {
    const __m256i point = _mm256_set1_epi16(static_cast<int16_t>(zero_point));
    int d = 0;
    for (; d + 16 <= size; d += 16) {
      const __m256i wide = _mm256_cvtepi8_epi16(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + d),
                          _mm256_sub_epi16(wide, point));
    }
    for (; d < size; ++d) to[d] = static_cast<int16_t>(row[d] - zero_point);
  }
  TF_POF_INLINE void Dot(Shared a, __m256i b, __m256i* sums) {
#if defined(__AVXVNNI__)
    asm volatile("%{vex%} vpdpwssd %2, %1, %0" : "+x"(*sums) : "x"(a), "x"(b));
#else
    __m256i product;
    asm volatile(
        "vpmaddwd %[b], %[a], %[product]\n\t"
        "vpaddd %[product], %[sums], %[sums]"
        : [sums] "+x"(*sums), [product] "=&x"(product)
        : [a] "x"(a), [b] "x"(b));
#endif
  }
  TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
    Dot(a, b.low, &sums->low);
    Dot(a, b.high, &sums->high);
  }
};

#if defined(__AVXVNNI__)

struct QuadProduct : Product {
  using SharedElement = uint8_t;
  using OwnElement = int8_t;
  static constexpr int kSize = 4;
  TF_POF_ADD_PRODUCTS(TF_POF_ADD_QUADS)
  TF_POF_INLINE int Shift(int) { return 128; }
  TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int, uint8_t* to) {
    const __m256i sign = _mm256_set1_epi8(-128);
    int d = 0;
    for (; d + 32 <= size; d += 32) {
      const __m256i bytes =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + d));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + d),
                          _mm256_xor_si256(bytes, sign));
    }
    for (; d < size; ++d) to[d] = static_cast<uint8_t>(row[d] ^ 0x80);
  }
  TF_POF_INLINE void Dot(Shared a, __m256i b, __m256i* sums) {
    asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sums) : "x"(a), "x"(b));
  }
  TF_POF_INLINE void Dot(Shared a, Own b, Sums* sums) {
    Dot(a, b.low, &sums->low);
    Dot(a, b.high, &sums->high);
  }
};

#endif
#undef TF_POF_ADD_PAIRS
#undef TF_POF_ADD_QUADS
#undef TF_POF_ADD_PRODUCTS
#undef TF_POF_SUMS
#undef TF_POF_ROW

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PRODUCTS_AVX2_H_
