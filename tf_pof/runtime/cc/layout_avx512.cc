// Rows to panels and back with AVX512: 64x64 bytes at a time.
#include "avx512.h"
#include "kernels_x86.h"
#include "transpose_avx512.h"

namespace tf_pof {
namespace {

// Transposes up to 64 rows of up to 64 bytes to up to 64 rows, flipping bytes
// from and to value + 128.
void Transpose64(const uint8_t* from, size_t from_stride, int from_rows,
                 uint8_t* to, size_t to_stride, int to_rows) {
  alignas(64) uint8_t quads[4][16][64];
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(kPanelFlip));
  const __mmask64 mask = FirstBytes(to_rows);
  for (int q = 0; q < 16; ++q) {
    __m512i r[4];
    for (int i = 0; i < 4; ++i) {
      const int row = 4 * q + i;
      r[i] = _mm512_setzero_si512();
      if (row < from_rows) {
        r[i] = _mm512_xor_si512(
            flip, _mm512_maskz_loadu_epi8(mask, from + row * from_stride));
      }
    }
    const __m512i low_ab = _mm512_unpacklo_epi8(r[0], r[1]);
    const __m512i high_ab = _mm512_unpackhi_epi8(r[0], r[1]);
    const __m512i low_cd = _mm512_unpacklo_epi8(r[2], r[3]);
    const __m512i high_cd = _mm512_unpackhi_epi8(r[2], r[3]);
    _mm512_store_si512(quads[0][q], _mm512_unpacklo_epi16(low_ab, low_cd));
    _mm512_store_si512(quads[1][q], _mm512_unpackhi_epi16(low_ab, low_cd));
    _mm512_store_si512(quads[2][q], _mm512_unpacklo_epi16(high_ab, high_cd));
    _mm512_store_si512(quads[3][q], _mm512_unpackhi_epi16(high_ab, high_cd));
  }
  // Dword 4 L + e of quads[v][q] is column 16 L + 4 v + e of rows 4 q to + 3.
  const __mmask64 stored = FirstBytes(from_rows);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    __m512i r[16];
    for (int q = 0; q < 16; ++q) r[q] = _mm512_load_si512(quads[v][q]);
    Transpose32(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const int row = i / 4 * 16 + 4 * v + i % 4;
      if (row < to_rows) {
        StoreFirst(to + row * to_stride, stored, r[i]);
      }
    }
  }
}

// Transposes 32 rows of 16 bytes: each half of a register for itself, so that
// nothing but unpacking is needed.
void Transpose32x16(const uint8_t* from, uint8_t* to, size_t to_stride) {
  const auto load = [=](int row) __attribute__((always_inline)) {
    return _mm_loadu_si128(
        reinterpret_cast<const __m128i*>(from + row * kPanelTokens));
  };
  __m256i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm256_set_m128i(load(16 + i), load(i));
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm256_unpacklo_epi8(r[i], r[i + 8]);
      t[2 * i + 1] = _mm256_unpackhi_epi8(r[i], r[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = t[i];
  }
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(kPanelFlip));
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * to_stride),
                        _mm256_xor_si256(r[i], flip));
  }
}

}  // namespace

void RowsToPanelAvx512(const int8_t* rows, size_t stride, int tokens,
                       int channels, uint8_t* panel) {
  for (int k = 0; k < channels; k += 64) {
    const int count = channels - k < 64 ? channels - k : 64;
    Transpose64(reinterpret_cast<const uint8_t*>(rows) + k, stride, tokens,
                panel + static_cast<size_t>(k) * kPanelTokens, kPanelTokens,
                count);
  }
}

void PanelToRowsAvx512(const uint8_t* panel, int tokens, int channels,
                       int8_t* rows, size_t stride) {
  if (channels == 32 && tokens == kPanelTokens) {  // a head
    for (int t = 0; t < kPanelTokens; t += 16) {
      Transpose32x16(panel + t, reinterpret_cast<uint8_t*>(rows) + t * stride,
                     stride);
    }
    return;
  }
  for (int n = 0; n < channels; n += 64) {
    const int count = channels - n < 64 ? channels - n : 64;
    Transpose64(panel + static_cast<size_t>(n) * kPanelTokens, kPanelTokens,
                count, reinterpret_cast<uint8_t*>(rows) + n, stride, tokens);
  }
}

}  // namespace tf_pof
