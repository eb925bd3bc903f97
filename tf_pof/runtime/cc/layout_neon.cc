// Rows to panels and back on Neon.
#include <arm_neon.h>

#include "kernels_arm.h"
#include "layout_bytes.h"

namespace tf_pof {
namespace {

struct Bytes {
  using Register = uint8x16_t;
  static Register Load(const uint8_t* from) { return vld1q_u8(from); }
  static void Store(uint8_t* to, Register x) { vst1q_u8(to, x); }
  static Register Low(Register a, Register b) { return vzip1q_u8(a, b); }
  static Register High(Register a, Register b) { return vzip2q_u8(a, b); }
  static Register Flip(Register x) { return x; }
};
static_assert(kPanelFlip == 0);

}  // namespace

void RowsToPanelNeon(const int8_t* rows, size_t stride, int tokens,
                     int channels, uint8_t* panel) {
  RowsToPanelBytes<Bytes>(rows, stride, tokens, channels, panel);
}

void PanelToRowsNeon(const uint8_t* panel, int tokens, int channels,
                     int8_t* rows, size_t stride) {
  PanelToRowsBytes<Bytes>(panel, tokens, channels, rows, stride);
}

}  // namespace tf_pof
