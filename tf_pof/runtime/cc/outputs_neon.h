// What the fully-connected kernels on Neon share: from sums to outputs.
#ifndef TF_POF_RUNTIME_CC_OUTPUTS_NEON_H_
#define TF_POF_RUNTIME_CC_OUTPUTS_NEON_H_

#include <arm_neon.h>

#include "kernel.h"

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

TF_POF_INLINE float32x4_t Scaled(int32x4_t sums, float32x4_t scales) {
  return vmulq_f32(vcvtq_f32_s32(sums), scales);
}

// Eight sums, each with its scale, as 16-bit integers.
TF_POF_INLINE int16x8_t Narrow(int32x4_t low, float32x4_t low_scales,
                               int32x4_t high, float32x4_t high_scales,
                               const Epilogue& epilogue) {
  // The conversion rounds half to even and saturates, as all others do.
  const int16x4_t half = vqmovn_s32(vcvtnq_s32_f32(Scaled(low, low_scales)));
  const int32x4_t other = vcvtnq_s32_f32(Scaled(high, high_scales));
  return vqaddq_s16(vqmovn_high_s32(half, other),
                    vdupq_n_s16(static_cast<int16_t>(epilogue.zero_point)));
}

// Stores 16 sums to `output`, of the epilogue's type, from element `at` on.
TF_POF_INLINE void StoreSixteen(const int32x4_t sums[4],
                                const float32x4_t scales[4],
                                const Epilogue& epilogue, void* output,
                                size_t at) {
  if (epilogue.type == kTfPofInt32) {
    int32_t* to = static_cast<int32_t*>(output) + at;
    for (int v = 0; v < 4; ++v) vst1q_s32(to + 4 * v, sums[v]);
    return;
  }
  if (epilogue.type == kTfPofFloat32) {
    float* to = static_cast<float*>(output) + at;
    for (int v = 0; v < 4; ++v) {
      vst1q_f32(to + 4 * v, Scaled(sums[v], scales[v]));
    }
    return;
  }
  const int16x8_t low =
      Narrow(sums[0], scales[0], sums[1], scales[1], epilogue);
  const int16x8_t high =
      Narrow(sums[2], scales[2], sums[3], scales[3], epilogue);
  int8_t* to = static_cast<int8_t*>(output) + at;
  vst1q_s8(to, vqmovn_high_s16(vqmovn_s16(low), high));
  if (epilogue.table == nullptr) return;
  for (int t = 0; t < 16; ++t) {
    to[t] = static_cast<int8_t>(epilogue.table[to[t] + 128] - 128);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_OUTPUTS_NEON_H_
