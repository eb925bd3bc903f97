// What packed_weights_cc_test.py calls: a plain C function.
#include <stdlib.h>
#include <string.h>

#include "packed_weights.h"

// Decodes `size` bytes into two dense matrices, int8 [rows, columns]: by rows,
// and by blocks into `from_blocks`, which is zero. 0 if that works.
extern "C" int Decode(const void* bytes, size_t size, int rows, int columns,
                      int8_t* dense, int8_t* from_blocks) {
  using namespace tf_pof;
  PackedWeights weights;
  PackedStatus status = OpenPacked(bytes, size, &weights);
  if (status != PackedStatus::kOk) return static_cast<int>(status);
  if (weights.rows != rows || weights.columns != columns) return -1;
  const size_t most = static_cast<size_t>(weights.max_group_blocks);
  const int high = weights.block_rows, wide = weights.block_columns;
  PackedBlocks blocks;
  uint32_t starts[65];
  blocks.starts = starts;
  blocks.columns = static_cast<uint32_t*>(malloc(most * sizeof(uint32_t)));
  blocks.values =
      static_cast<int8_t*>(malloc(most * static_cast<size_t>(high * wide)));
  for (int group = 0; group < weights.num_groups; ++group) {
    const size_t first =
        static_cast<size_t>(weights.first_row(group)) * columns;
    status = DecodeRows(weights, group, dense + first);
    if (status != PackedStatus::kOk) break;
    status = DecodeBlocks(weights, group, blocks);
    if (status != PackedStatus::kOk) break;
    const int8_t* value = blocks.values;
    int8_t* row = from_blocks + first;
    for (int r = 0; r < weights.num_rows(group) / high; ++r) {
      for (uint32_t b = starts[r]; b < starts[r + 1]; ++b) {
        for (int i = 0; i < high; ++i, value += wide) {
          memcpy(row + i * columns + blocks.columns[b], value,
                 static_cast<size_t>(wide));
        }
      }
      row += static_cast<size_t>(high) * columns;
    }
  }
  free(blocks.columns);
  free(blocks.values);
  return static_cast<int>(status);
}
