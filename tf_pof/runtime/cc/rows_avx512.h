// What the AVX512 kernels on rows share: 16 tokens, one output a 32-bit lane.
#ifndef TF_POF_RUNTIME_CC_ROWS_AVX512_H_
#define TF_POF_RUNTIME_CC_ROWS_AVX512_H_

#include "avx512.h"

namespace tf_pof {

// Stores the sums of 16 outputs of one token, the first `count` of them, from
// output `n` of the layer on, to `to` (of the output type).
TF_POF_INLINE void StoreLanes(__m512i sums, const Epilogue& epilogue, int n,
                              int count, void* to, size_t at) {
  const __mmask16 mask = static_cast<__mmask16>(FirstBytes(count));
  if (epilogue.type == kTfPofInt32) {
    _mm512_mask_storeu_epi32(static_cast<int32_t*>(to) + at, mask, sums);
    return;
  }
  const __m512 scale = _mm512_maskz_loadu_ps(mask, epilogue.scales + n);
  if (epilogue.type == kTfPofFloat32) {
    _mm512_mask_storeu_ps(static_cast<float*>(to) + at, mask,
                          _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
    return;
  }
  const __m512i all_sums[4] = {sums, sums, sums, sums};
  const __m512 scales[4] = {scale, scale, scale, scale};
  __m512i values[4];
  Scale(epilogue, all_sums, scales, values);
  // Every lane holds each group of four bytes four times.
  const __m512i bytes = Activate(epilogue, Narrow(values, epilogue));
  const __m512i gather =
      _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  const __m128i row =
      _mm512_castsi512_si128(_mm512_permutexvar_epi32(gather, bytes));
  _mm_mask_storeu_epi8(static_cast<int8_t*>(to) + at, mask,
                       _mm_xor_si128(row, _mm_set1_epi8(-128)));
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ROWS_AVX512_H_
