// Rows come back from panels as they were, whatever their number, and every
// version puts the bytes to the same places.
#include <string.h>

#include "fully_connected.h"
#include "scalar.h"
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

void TestScalar(int tokens, int channels) {
  Random random = {static_cast<uint64_t>(tokens * 1000 + channels)};
  const size_t stride = channels + 5;
  auto* rows = Allocate<int8_t>(stride * tokens);
  auto* back = Allocate<int8_t>(stride * tokens);
  auto* panel = Allocate<uint8_t>(64 * static_cast<size_t>(channels));
  auto* same = Allocate<uint8_t>(64 * static_cast<size_t>(channels));
  for (size_t i = 0; i < stride * tokens; ++i) {
    rows[i] = back[i] = static_cast<int8_t>(random.Between(-128, 127));
  }
  tf_pof::RowsToPanelScalar(rows, stride, tokens, channels, panel);
  tf_pof::RowsToPanel(rows, stride, tokens, channels, same);
  for (int t = 0; t < tokens; ++t) {
    for (int k = 0; k < channels; ++k) {
      const uint8_t expected =
          static_cast<uint8_t>(rows[t * stride + k] ^ tf_pof::kPanelFlip);
      CHECK(panel[k * 64 + t] == expected && same[k * 64 + t] == expected,
            "%d tokens, %d channels: %d, %d", tokens, channels, t, k);
      back[t * stride + k] = 0;
    }
  }
  tf_pof::PanelToRowsScalar(panel, tokens, channels, back, stride);
  CHECK(memcmp(rows, back, stride * tokens) == 0, "%d tokens, %d channels",
        tokens, channels);
  free(rows);
  free(back);
  free(panel);
  free(same);
}

}  // namespace

int main() {
  for (int tokens : {1, 2, 15, 16, 17, 63, 64, 65, 128, 200}) {
    for (int channels : {1, 3, 63, 64, 65, 100, 128, 321}) {
      TestRoundTrip(tokens, channels);
      if (tokens <= 64) TestScalar(tokens, channels);
    }
  }
  return 0;
}
