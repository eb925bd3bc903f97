// Rows to panels and back on Neon: 16 x 16 bytes at a time.
#include <arm_neon.h>

#include "buffer.h"
#include "kernels_arm.h"
#include "scalar.h"

namespace tf_pof {
namespace {

constexpr int kSize = 16;

// Transposes up to 16 rows of 16 bytes to 16 rows, of which up to 16 are
// stored; others than `from_rows` are zeros.
void Transpose16(const uint8_t* from, size_t from_stride, int from_rows,
                 uint8_t* to, size_t to_stride, int to_rows) {
  uint8x16_t r[kSize], t[kSize];
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    r[i] = i < from_rows ? vld1q_u8(from + i * from_stride) : vdupq_n_u8(0);
  }
  // Row and column are eight bits of a byte's place: each round turns these
  // by one, so that four rounds swap them.
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < kSize / 2; ++i) {
      t[2 * i] = vzip1q_u8(r[i], r[i + kSize / 2]);
      t[2 * i + 1] = vzip2q_u8(r[i], r[i + kSize / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) r[i] = t[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    if (i < to_rows) vst1q_u8(to + i * to_stride, r[i]);
  }
}

}  // namespace

void RowsToPanelNeon(const int8_t* rows, size_t stride, int tokens,
                     int channels, uint8_t* panel) {
  for (int t = 0; t < tokens; t += kSize) {
    const int8_t* from = rows + t * stride;
    int k = 0;
    for (; k + kSize <= channels; k += kSize) {
      Transpose16(reinterpret_cast<const uint8_t*>(from + k), stride,
                  tokens - t, panel + static_cast<size_t>(k) * kPanelTokens + t,
                  kPanelTokens, kSize);
    }
    RowsToPanelScalar(from + k, stride, Min(kSize, tokens - t), channels - k,
                      panel + static_cast<size_t>(k) * kPanelTokens + t);
  }
}

void PanelToRowsNeon(const uint8_t* panel, int tokens, int channels,
                     int8_t* rows, size_t stride) {
  for (int t = 0; t < tokens; t += kSize) {
    int8_t* to = rows + t * stride;
    int n = 0;
    for (; n + kSize <= channels; n += kSize) {
      Transpose16(panel + static_cast<size_t>(n) * kPanelTokens + t,
                  kPanelTokens, kSize, reinterpret_cast<uint8_t*>(to + n),
                  stride, tokens - t);
    }
    PanelToRowsScalar(panel + static_cast<size_t>(n) * kPanelTokens + t,
                      Min(kSize, tokens - t), channels - n, to + n, stride);
  }
}

}  // namespace tf_pof
