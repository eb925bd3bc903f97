// Rows to panels and back over registers of 16 bytes, 16 x 16 at a time.
//
// Bytes is one instruction set's: Load, Store, Low and High (of two registers'
// halves, byte by byte in turns) and Flip (of panels).
#ifndef TF_POF_RUNTIME_CC_LAYOUT_BYTES_H_
#define TF_POF_RUNTIME_CC_LAYOUT_BYTES_H_

#include "buffer.h"
#include "kernel.h"
#include "scalar.h"

namespace tf_pof {
namespace {

constexpr int kSize = 16;

template <typename Bytes>
void Transpose16(const uint8_t* from, size_t from_stride, uint8_t* to,
                 size_t to_stride) {
  typename Bytes::Register r[kSize], t[kSize];
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    r[i] = Bytes::Load(from + i * from_stride);
  }
  // Row and column are eight bits of a byte's place: each round turns these
  // by one, so that four rounds swap them.
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < kSize / 2; ++i) {
      t[2 * i] = Bytes::Low(r[i], r[i + kSize / 2]);
      t[2 * i + 1] = Bytes::High(r[i], r[i + kSize / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) r[i] = t[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    Bytes::Store(to + i * to_stride, Bytes::Flip(r[i]));
  }
}

template <typename Bytes>
void RowsToPanelBytes(const int8_t* rows, size_t stride, int tokens,
                      int channels, uint8_t* panel) {
  for (int t = 0; t < tokens; t += kSize) {
    const int8_t* from = rows + t * stride;
    int k = 0;
    // Other tokens of the panel stay as they are.
    for (; tokens - t >= kSize && k + kSize <= channels; k += kSize) {
      Transpose16<Bytes>(reinterpret_cast<const uint8_t*>(from + k), stride,
                         panel + static_cast<size_t>(k) * kPanelTokens + t,
                         kPanelTokens);
    }
    RowsToPanelScalar(from + k, stride, Min(kSize, tokens - t), channels - k,
                      panel + static_cast<size_t>(k) * kPanelTokens + t);
  }
}

template <typename Bytes>
void PanelToRowsBytes(const uint8_t* panel, int tokens, int channels,
                      int8_t* rows, size_t stride) {
  for (int t = 0; t < tokens; t += kSize) {
    int8_t* to = rows + t * stride;
    int n = 0;
    // Nothing behind the tokens is read: it may be behind the last panel.
    for (; tokens - t >= kSize && n + kSize <= channels; n += kSize) {
      Transpose16<Bytes>(panel + static_cast<size_t>(n) * kPanelTokens + t,
                         kPanelTokens, reinterpret_cast<uint8_t*>(to + n),
                         stride);
    }
    PanelToRowsScalar(panel + static_cast<size_t>(n) * kPanelTokens + t,
                      Min(kSize, tokens - t), channels - n, to + n, stride);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_LAYOUT_BYTES_H_
