// Rows to panels and back where there is no AVX512.
#include <immintrin.h>

#include "kernels_x86.h"
#include "layout_bytes.h"

namespace tf_pof {
namespace {

struct Bytes {
  using Register = __m128i;
  static Register Load(const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  static void Store(uint8_t* to, Register x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x);
  }
  static Register Low(Register a, Register b) {
    return _mm_unpacklo_epi8(a, b);
  }
  static Register High(Register a, Register b) {
    return _mm_unpackhi_epi8(a, b);
  }
  static Register Flip(Register x) {
    return _mm_xor_si128(x, _mm_set1_epi8(static_cast<char>(kPanelFlip)));
  }
};

}  // namespace

void RowsToPanelAvx2(const int8_t* rows, size_t stride, int tokens,
                     int channels, uint8_t* panel) {
  RowsToPanelBytes<Bytes>(rows, stride, tokens, channels, panel);
}

void PanelToRowsAvx2(const uint8_t* panel, int tokens, int channels,
                     int8_t* rows, size_t stride) {
  PanelToRowsBytes<Bytes>(panel, tokens, channels, rows, stride);
}

}  // namespace tf_pof
