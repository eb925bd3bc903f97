// Rows come back from panels as they were, whatever their number, and every
// version puts the bytes to the same places.
#include <string.h>

#include "fully_connected.h"
#include "kernel.h"
#include "tests/testing.h"

namespace {

void TestRoundTrip(int tokens, int channels) {
  Random random = {static_cast<uint64_t>(tokens * 1000 + channels)};
  const size_t count = static_cast<size_t>(tokens) * channels;
  auto* rows = Allocate<int8_t>(count);
  auto* back = Allocate<int8_t>(count);
  const size_t bytes = TfPofPanelBytes(tokens, channels);
  CHECK(bytes == static_cast<size_t>((tokens + 63) / 64) * 64 * channels,
        "%d tokens, %d channels", tokens, channels);
  auto* panels = Allocate<int8_t>(bytes);
  for (size_t i = 0; i < count; ++i) {
    rows[i] = static_cast<int8_t>(random.Between(-128, 127));
  }
  TfPofToPanels(rows, tokens, channels, panels);
  TfPofFromPanels(panels, tokens, channels, back);
  CHECK(memcmp(rows, back, count) == 0, "%d tokens, %d channels", tokens,
        channels);
  free(rows);
  free(back);
  free(panels);
}

// `tokens` of a panel from one on: others are neither read nor written.
void TestPart(tf_pof::Isa isa, int first, int tokens, int channels) {
  Random random = {static_cast<uint64_t>(tokens * 1000 + channels)};
  const size_t stride = channels + 5;
  // Not a byte behind the last token.
  const size_t size = 64 * static_cast<size_t>(channels - 1) + tokens;
  auto* rows = Allocate<int8_t>(stride * tokens);
  auto* back = Allocate<int8_t>(stride * tokens);
  auto* panel = Allocate<uint8_t>(first + size);
  for (size_t i = 0; i < stride * tokens; ++i) {
    rows[i] = back[i] = static_cast<int8_t>(random.Between(-128, 127));
  }
  memset(panel, 77, first + size);
  tf_pof::RowsToPanel(isa, rows, stride, tokens, channels, panel + first);
  for (size_t i = 0; i < first + size; ++i) {
    const int t = static_cast<int>(i % 64) - first;
    const size_t k = i / 64;
    uint8_t expected = 77;
    if (t >= 0 && t < tokens) {
      expected =
          static_cast<uint8_t>(rows[t * stride + k] ^ tf_pof::kPanelFlip);
      back[t * stride + k] = 0;
    }
    CHECK(panel[i] == expected, "isa %d, %d tokens from %d, %d channels: %zu",
          static_cast<int>(isa), tokens, first, channels, i);
  }
  tf_pof::PanelToRows(isa, panel + first, tokens, channels, back, stride);
  CHECK(memcmp(rows, back, stride * tokens) == 0,
        "isa %d, %d tokens from %d, %d channels", static_cast<int>(isa), tokens,
        first, channels);
  free(rows);
  free(back);
  free(panel);
}

}  // namespace

int main() {
  for (int tokens : {1, 2, 15, 16, 17, 63, 64, 65, 128, 200}) {
    for (int channels : {1, 3, 63, 64, 65, 100, 128, 321}) {
      TestRoundTrip(tokens, channels);
      for (int isa = 0; isa <= static_cast<int>(tf_pof::kBestIsa); ++isa) {
        if (!tf_pof::Supported(static_cast<tf_pof::Isa>(isa))) continue;
        for (int first : {0, 3, 47}) {
          if (first + tokens > 64) continue;
          TestPart(static_cast<tf_pof::Isa>(isa), first, tokens, channels);
        }
      }
    }
  }
  return 0;
}
