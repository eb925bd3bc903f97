// A libFuzzer target: packed weights of any bytes, with the checksum put
// right, so that the fuzzer gets behind it. Run it under sanitizers:
//
//   clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -I.
//       tests/packed_weights_fuzz.cc packed_weights.cc -o packed_weights_fuzz
#include <string.h>

#include "crc32.h"
#include "packed_weights.h"
#include "tests/testing.h"

namespace tf_pof {
namespace {

// Decodes a group both ways into buffers of exactly the size it may fill.
void DecodeGroup(const PackedWeights& weights, int group) {
  const size_t columns = static_cast<size_t>(weights.columns);
  const size_t dense = static_cast<size_t>(weights.num_rows(group)) * columns;
  const size_t most = static_cast<size_t>(weights.max_group_blocks);
  const size_t high = static_cast<size_t>(weights.block_rows);
  const size_t wide = static_cast<size_t>(weights.block_columns);
  const size_t rows_of_blocks = dense / columns / high;
  int8_t* rows = static_cast<int8_t*>(malloc(dense));
  int8_t* again = static_cast<int8_t*>(calloc(dense, 1));
  PackedBlocks blocks;
  blocks.starts =
      static_cast<uint32_t*>(malloc((rows_of_blocks + 1) * sizeof(uint32_t)));
  blocks.columns = static_cast<uint32_t*>(malloc(most * sizeof(uint32_t)));
  blocks.values = static_cast<int8_t*>(malloc(most * high * wide));
  const PackedStatus status = DecodeRows(weights, group, rows);
  CHECK(DecodeBlocks(weights, group, blocks) == status, "the ways differ");
  if (status == PackedStatus::kOk) {
    const int8_t* value = blocks.values;
    for (size_t r = 0; r < rows_of_blocks; ++r) {
      for (uint32_t b = blocks.starts[r]; b < blocks.starts[r + 1]; ++b) {
        for (size_t i = 0; i < high; ++i, value += wide) {
          memcpy(again + (r * high + i) * columns + blocks.columns[b], value,
                 wide);
        }
      }
    }
    CHECK(memcmp(rows, again, dense) == 0, "rows and blocks differ");
  }
  free(rows);
  free(again);
  free(blocks.starts);
  free(blocks.columns);
  free(blocks.values);
}

}  // namespace
}  // namespace tf_pof

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tf_pof;
  uint8_t* bytes = static_cast<uint8_t*>(malloc(size));
  memcpy(bytes, data, size);
  if (size >= 8) {
    const uint32_t crc = Crc32(bytes + 8, size - 8);
    memcpy(bytes, "TPW1", 4);
    memcpy(bytes + 4, &crc, 4);
  }
  auto* weights = static_cast<PackedWeights*>(malloc(sizeof(PackedWeights)));
  // Larger ones are as good, but take long.
  if (OpenPacked(bytes, size, weights) == PackedStatus::kOk &&
      weights->columns <= 1 << 16 && weights->num_groups <= 1 << 10) {
    for (int group = 0; group < weights->num_groups; ++group) {
      DecodeGroup(*weights, group);
    }
  }
  free(weights);
  free(bytes);
  return 0;
}
