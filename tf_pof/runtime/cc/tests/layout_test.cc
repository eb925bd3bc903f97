// Rows come back from panels as they were, whatever their number.
#include <string.h>

#include "fully_connected.h"
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

}  // namespace

int main() {
  for (int tokens : {1, 2, 15, 16, 17, 63, 64, 65, 128, 200}) {
    for (int channels : {1, 3, 63, 64, 65, 100, 128, 321}) {
      TestRoundTrip(tokens, channels);
    }
  }
  return 0;
}
