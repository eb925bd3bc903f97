// Reads packed weights: int8 matrices with zeros in a compact form.
//
// tf_pof/export/encodings/packed_format.py writes them and says how, field
// by field. Groups of up to 64 rows decode independently, on any thread, into
// a small buffer of the caller, so that a whole dense copy never exists:
//
//   PackedWeights weights;
//   PackedStatus status = OpenPacked(bytes, size, &weights);
//   for (int g = 0; status == PackedStatus::kOk && g < weights.num_groups; ++g)
//     status = DecodeRows(weights, g, scratch);
//
// Bytes may be hostile: everything is checked before it is used, and nothing
// is read or written outside of what the caller gave.
#ifndef TF_POF_RUNTIME_CC_PACKED_WEIGHTS_H_
#define TF_POF_RUNTIME_CC_PACKED_WEIGHTS_H_

#include <stddef.h>
#include <stdint.h>

namespace tf_pof {

enum class PackedStatus {
  kOk,
  kNotPacked,     // too short, or the magic is missing
  kBadChecksum,
  kBadHeader,     // impossible or unsupported numbers, or a wrong size
  kBadCode,       // code lengths that make no prefix code
  kCorruptGroup,  // bits that run out, are left over or leave the matrix
};

// A sentence for an error message; lives forever.
const char* PackedMessage(PackedStatus status);

// An opened matrix. Points into the bytes it was opened on, which must outlive
// it. Decoding does not change it, so threads may share it. 16 KB.
struct PackedWeights {
  int rows;
  int columns;
  uint32_t nonzeros;  // as the header has it
  int block_rows;     // 1 x 1: unstructured
  int block_columns;
  int group_rows;
  int num_groups;
  // Most blocks of any group: what PackedBlocks needs room for.
  int max_group_blocks;

  bool stored;            // dense, no codes
  const uint8_t* groups;  // stored: the weights; else the table of groups
  const uint8_t* bits;
  uint16_t gap_mask, value_mask;
  // By the next bits: symbol << 8 | length of its code.
  uint16_t gaps[4096];
  uint16_t values[4096];

  int first_row(int group) const { return group * group_rows; }
  int num_rows(int group) const {
    const int rest = rows - first_row(group);
    return rest < group_rows ? rest : group_rows;
  }
};

// What the header says, unchecked; 0 if there is none.
uint32_t PackedNonzeros(const void* bytes, size_t size);

// Checks header, checksum, codes and groups.
PackedStatus OpenPacked(const void* bytes, size_t size, PackedWeights* weights);

// Decodes a group into `rows`, int8 [num_rows(group), columns], zeros
// included. After an error the contents of `rows` are undefined.
PackedStatus DecodeRows(const PackedWeights& weights, int group, int8_t* rows);

// The blocks of a group that are not all zero, row of blocks by row of blocks.
// The caller gives the room.
struct PackedBlocks {
  // [num_rows(group) / block_rows + 1]: the blocks of row of blocks r are
  // starts[r] to starts[r + 1].
  uint32_t* starts;
  uint32_t* columns;  // [max_group_blocks], first column of each block
  // [max_group_blocks, block_rows, block_columns]
  int8_t* values;
};

// Decodes a group into blocks. A block of 1 x 1 is one nonzero weight. After
// an error the contents of `blocks` are undefined.
PackedStatus DecodeBlocks(const PackedWeights& weights, int group,
                          const PackedBlocks& blocks);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PACKED_WEIGHTS_H_
