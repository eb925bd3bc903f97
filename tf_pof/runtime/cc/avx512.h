// Pieces that the AVX512 kernels share. Everything is internal to the file
// that includes it: see Min in buffer.h.
//
// Hot loops are made of the instructions below, which compilers keep in the
// written order: left to themselves, gcc 12 folds loads and spills so that
// loops take up to twice as long as clang's, and clang's vectorizer turns
// scalar index loads into shuffles.
#ifndef TF_POF_RUNTIME_CC_AVX512_H_
#define TF_POF_RUNTIME_CC_AVX512_H_

#include <immintrin.h>

#include "kernel.h"

#define TF_POF_INLINE static inline __attribute__((always_inline))
#define TF_POF_INLINE_MEMBER inline __attribute__((always_inline))

namespace tf_pof {

// The 64 bytes at base + offset * 8.
TF_POF_INLINE __m512i PinnedLoad8(const uint8_t* base, uint64_t offset) {
  __m512i out;
  asm volatile("vmovdqa64 (%1,%2,8), %0" : "=v"(out) : "r"(base), "r"(offset));
  return out;
}

TF_POF_INLINE __m512i PinnedLoad(const uint8_t* from) {
  __m512i out;
  asm volatile("vmovdqa64 %1, %0"
               : "=v"(out)
               : "m"(*reinterpret_cast<const __m512i*>(from)));
  return out;
}

TF_POF_INLINE void PinnedPrefetch(const uint8_t* line) {
  asm volatile("prefetcht0 %0" : : "m"(*line));
}

TF_POF_INLINE __m512i PinnedBroadcast(const uint32_t* value) {
  __m512i out;
  asm volatile("vpbroadcastd %1, %0" : "=v"(out) : "m"(*value));
  return out;
}

#define TF_POF_PINNED(Name, instruction)                                  \
  TF_POF_INLINE __m512i Name(__m512i a, __m512i b) {                      \
    __m512i out;                                                          \
    asm volatile(instruction " %2, %1, %0" : "=v"(out) : "v"(a), "v"(b)); \
    return out;                                                           \
  }
TF_POF_PINNED(PinnedUnpackLow8, "vpunpcklbw")
TF_POF_PINNED(PinnedUnpackHigh8, "vpunpckhbw")
TF_POF_PINNED(PinnedUnpackLow16, "vpunpcklwd")
TF_POF_PINNED(PinnedUnpackHigh16, "vpunpckhwd")
#undef TF_POF_PINNED

// sum += dot products of four unsigned by four signed bytes.
TF_POF_INLINE void PinnedDot(__m512i* sum, __m512i unsigned8, __m512i signed8) {
  asm volatile("vpdpbusd %2, %1, %0"
               : "+v"(*sum)
               : "v"(unsigned8), "v"(signed8));
}

// The same; the signed bytes are in memory.
TF_POF_INLINE void PinnedDotLoaded(__m512i* sum, __m512i unsigned8,
                                   const int8_t* signed8) {
  asm volatile("vpdpbusd %2, %1, %0"
               : "+v"(*sum)
               : "v"(unsigned8),
                 "m"(*reinterpret_cast<const __m512i*>(signed8)));
}

// Bits [16 * i, 16 * i + 16); one operation where shift and mask are two.
template <int i>
TF_POF_INLINE uint64_t Bits16(uint64_t packed) {
  if (i == 0) return static_cast<uint16_t>(packed);
  if (i == 3) return packed >> 48;
  uint64_t out;
  asm("bextr %2, %1, %0"
      : "=r"(out)
      : "r"(packed), "r"(static_cast<uint64_t>(0x1000 + 16 * i)));
  return out;
}

// round(value * scale) for a requantization. Above, what saturates anyway is
// cut where it may be too large a float, which would turn into the smallest
// integer.
TF_POF_INLINE void Scale(const Epilogue& epilogue, const __m512i sums[4],
                         const __m512 scales[4], __m512i values[4]) {
  __m512 scaled[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    scaled[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i]), scales[i]);
  }
  if (__builtin_expect(!epilogue.bounded, 0)) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      scaled[i] = _mm512_min_ps(scaled[i], _mm512_set1_ps(32767.0f));
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) values[i] = _mm512_cvtps_epi32(scaled[i]);
}

// The zero point of bytes that are value + 128.
TF_POF_INLINE __m512i PanelZeroPoint(const Epilogue& epilogue) {
  return _mm512_set1_epi16(static_cast<int16_t>(epilogue.zero_point + 128));
}

// Four vectors of requantized values to saturated bytes, each value + 128. In
// each 128-bit lane: four bytes of the first, then of the others.
TF_POF_INLINE __m512i Narrow(const __m512i values[4],
                             const Epilogue& epilogue) {
  const __m512i zero_point = PanelZeroPoint(epilogue);
  return _mm512_packus_epi16(
      _mm512_adds_epi16(_mm512_packs_epi32(values[0], values[1]), zero_point),
      _mm512_adds_epi16(_mm512_packs_epi32(values[2], values[3]), zero_point));
}

// The same, each byte the value itself.
TF_POF_INLINE __m512i NarrowSigned(const __m512i values[4],
                                   const Epilogue& epilogue) {
  const __m512i zero_point =
      _mm512_set1_epi16(static_cast<int16_t>(epilogue.zero_point));
  return _mm512_packs_epi16(
      _mm512_adds_epi16(_mm512_packs_epi32(values[0], values[1]), zero_point),
      _mm512_adds_epi16(_mm512_packs_epi32(values[2], values[3]), zero_point));
}

// Bytes of a[0..63] and b[0..63] by the low seven bits of each index: VBMI,
// which whoever includes this need not be compiled for.
TF_POF_INLINE __m512i PermuteBytes(const uint8_t* a, const uint8_t* b,
                                   __m512i index) {
  asm("vpermi2b %2, %1, %0"
      : "+v"(index)
      : "v"(_mm512_loadu_si512(a)), "m"(*reinterpret_cast<const __m512i*>(b)));
  return index;
}

// The same of indices in 16 bits each, by way of words of two bytes.
TF_POF_INLINE __m512i PermuteWords(const uint8_t* a, const uint8_t* b,
                                   __m512i index) {
  const __m512i word = _mm512_permutex2var_epi16(_mm512_loadu_si512(a),
                                                 _mm512_srli_epi16(index, 1),
                                                 _mm512_loadu_si512(b));
  const __m512i high =
      _mm512_slli_epi16(_mm512_and_si512(index, _mm512_set1_epi16(1)), 3);
  return _mm512_and_si512(_mm512_srlv_epi16(word, high),
                          _mm512_set1_epi16(255));
}

// Entries of two tables of 128 bytes, of the second where an index has its
// top bit.
TF_POF_INLINE __m512i LookUpBytes(const uint8_t* first, const uint8_t* second,
                                  __m512i bytes) {
  return _mm512_mask_mov_epi8(PermuteBytes(first, first + 64, bytes),
                              _mm512_movepi8_mask(bytes),
                              PermuteBytes(second, second + 64, bytes));
}

// The same without VBMI, in 22 instructions and not 3.
__attribute__((noinline)) static __m512i LookUpWords(const uint8_t* first,
                                                     const uint8_t* second,
                                                     __m512i bytes) {
  const __m512i even = _mm512_and_si512(bytes, _mm512_set1_epi16(255));
  const __m512i odd = _mm512_srli_epi16(bytes, 8);
  const __m512i low = _mm512_or_si512(
      PermuteWords(first, first + 64, even),
      _mm512_slli_epi16(PermuteWords(first, first + 64, odd), 8));
  const __m512i high = _mm512_or_si512(
      PermuteWords(second, second + 64, even),
      _mm512_slli_epi16(PermuteWords(second, second + 64, odd), 8));
  return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(bytes), high);
}

// 64 bytes, each value + 128, after the activation, if there is one.
TF_POF_INLINE __m512i Activate(const Epilogue& epilogue, __m512i bytes) {
  const uint8_t* table = epilogue.table;
  if (table == nullptr) return bytes;
  if (epilogue.permutes_bytes) return LookUpBytes(table, table + 128, bytes);
  return LookUpWords(table, table + 128, bytes);
}

// A mask of the first `count` of 64 bytes.
TF_POF_INLINE __mmask64 FirstBytes(int count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// Stores the first bytes of 64 that `mask` has; whole vectors without it,
// which is faster.
TF_POF_INLINE void StoreFirst(void* to, __mmask64 mask, __m512i bytes) {
  if (mask == ~__mmask64{0}) {
    _mm512_storeu_si512(to, bytes);
  } else {
    _mm512_mask_storeu_epi8(to, mask, bytes);
  }
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_AVX512_H_
