#include "packed_weights.h"

#include <string.h>

#include "crc32.h"

namespace tf_pof {
namespace {

constexpr size_t kHeaderBytes = 24;
constexpr size_t kCheckedFrom = 8;
constexpr size_t kPadding = 16;
constexpr int kMaxCode = 12;
constexpr uint32_t kSkip = 255;

// Unaligned and little-endian, as all processors that this is built for.
template <typename T>
T Load(const uint8_t* bytes) {
  T value;
  memcpy(&value, bytes, sizeof(T));
  return value;
}

// Fills `table` from the code lengths of 256 symbols; false if they make no
// whole prefix code.
bool BuildTable(const uint8_t* lengths, uint16_t* table, uint16_t* mask) {
  int counts[kMaxCode + 1] = {};
  for (int symbol = 0; symbol < 256; ++symbol) {
    if (lengths[symbol] > kMaxCode) return false;
    ++counts[lengths[symbol]];
  }
  uint32_t next[kMaxCode + 1] = {};
  uint32_t code = 0;
  int longest = 0;
  for (int length = 1; length <= kMaxCode; ++length) {
    next[length] = code <<= 1;
    code += counts[length];
    if (counts[length] > 0) longest = length;
  }
  // Kraft's sum, in units of the longest codes; it is below 2^20.
  if (code != 1u << kMaxCode) return false;
  const uint32_t entries = 1u << longest;
  for (int symbol = 0; symbol < 256; ++symbol) {
    const int length = lengths[symbol];
    if (length == 0) continue;
    const uint32_t forward = next[length]++;
    uint32_t first = 0;
    for (int bit = 0; bit < length; ++bit) {
      first |= (forward >> bit & 1) << (length - 1 - bit);
    }
    for (uint32_t i = first; i < entries; i += 1u << length) {
      table[i] = static_cast<uint16_t>(symbol << 8 | length);
    }
  }
  *mask = static_cast<uint16_t>(entries - 1);
  return true;
}

// Reads one code's lengths at *at and moves it on.
PackedStatus ReadCode(const uint8_t** at, const uint8_t* end, int lowest,
                      int highest, uint16_t* table, uint16_t* mask) {
  if (lowest == highest) {
    table[0] = static_cast<uint16_t>(lowest << 8);
    *mask = 0;
    return PackedStatus::kOk;
  }
  if (lowest > highest) return PackedStatus::kBadCode;
  const int count = highest - lowest + 1;
  if (end - *at < (count + 1) / 2) return PackedStatus::kBadHeader;
  uint8_t lengths[256] = {};
  for (int i = 0; i < count; ++i) {
    lengths[lowest + i] = (*at)[i / 2] >> (i % 2 * 4) & 15;
  }
  *at += (count + 1) / 2;
  return BuildTable(lengths, table, mask) ? PackedStatus::kOk
                                          : PackedStatus::kBadCode;
}

// The next bits of a group, lowest first. Reads up to 16 bytes past its end:
// the padding, or the groups behind it.
class BitReader {
 public:
  BitReader(const uint8_t* begin, const uint8_t* end)
      : next_(begin), end_(end) {}

  // Makes at least 56 bits available; false if more than all were taken.
  bool Refill() {
    if (next_ > end_ + 8) return false;
    bits_ |= Load<uint64_t>(next_) << count_;
    next_ += (63 - count_) >> 3;
    count_ |= 56;
    return true;
  }

  uint32_t Take(const uint16_t* table, uint16_t mask) {
    const uint32_t entry = table[bits_ & mask];
    bits_ >>= entry & 63;
    count_ -= entry & 63;
    return entry >> 8;
  }

  // Whether the last bit taken lies in the last byte.
  bool AtEnd() const { return next_ - (count_ >> 3) == end_; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t bits_ = 0;
  uint32_t count_ = 0;
};

int8_t TakeValue(const PackedWeights& weights, BitReader* bits) {
  return static_cast<int8_t>(bits->Take(weights.values, weights.value_mask) ^
                             128);
}

// A sink's Put takes the values of the block at `place` of the group from
// `bits`, which has at least 12 of them; false if they run out.

// Single weights into dense rows.
class WeightRows {
 public:
  explicit WeightRows(int8_t* rows) : rows_(rows) {}

  bool Put(const PackedWeights& weights, uint32_t place, BitReader* bits) {
    rows_[place] = TakeValue(weights, bits);
    return true;
  }

 private:
  int8_t* rows_;
};

// Follows a group's blocks from one row of blocks to the next.
class RowOfBlocks {
 public:
  explicit RowOfBlocks(const PackedWeights& weights)
      : across_(weights.columns / weights.block_columns) {}

  // True while `place` lies in a later row of blocks.
  bool Advance(uint32_t place) {
    if (place - first_ < across_) return false;
    first_ += across_;
    ++row_;
    return true;
  }
  uint32_t row() const { return row_; }
  uint32_t column(uint32_t place) const { return place - first_; }

 private:
  uint32_t across_;
  uint32_t first_ = 0;
  uint32_t row_ = 0;
};

class BlockRows {
 public:
  BlockRows(const PackedWeights& weights, int8_t* rows)
      : row_(weights), rows_(rows) {}

  bool Put(const PackedWeights& weights, uint32_t place, BitReader* bits) {
    while (row_.Advance(place)) {
    }
    int8_t* to =
        rows_ +
        static_cast<size_t>(row_.row()) * weights.block_rows * weights.columns +
        static_cast<size_t>(row_.column(place)) * weights.block_columns;
    for (int r = 0; r < weights.block_rows; ++r, to += weights.columns) {
      for (int c = 0; c < weights.block_columns; ++c) {
        if (!bits->Refill()) return false;
        to[c] = TakeValue(weights, bits);
      }
    }
    return true;
  }

 private:
  RowOfBlocks row_;
  int8_t* rows_;
};

class BlockList {
 public:
  BlockList(const PackedWeights& weights, const PackedBlocks& blocks)
      : row_(weights), blocks_(blocks), values_(blocks.values) {
    blocks_.starts[0] = 0;
  }

  bool Put(const PackedWeights& weights, uint32_t place, BitReader* bits) {
    EndRows(place);
    blocks_.columns[count_++] = row_.column(place) * weights.block_columns;
    *values_++ = TakeValue(weights, bits);
    for (int i = weights.block_rows * weights.block_columns; i > 1; --i) {
      if (!bits->Refill()) return false;
      *values_++ = TakeValue(weights, bits);
    }
    return true;
  }

  void EndRows(uint32_t place) {
    while (row_.Advance(place)) blocks_.starts[row_.row()] = count_;
  }

 private:
  RowOfBlocks row_;
  PackedBlocks blocks_;
  int8_t* values_;
  uint32_t count_ = 0;
};

struct Group {
  uint32_t begin, end;  // of its bits, in bytes
  uint32_t blocks;
  uint32_t places;  // of blocks, all-zero ones included
};

Group GetGroup(const PackedWeights& weights, int group) {
  const uint8_t* entry = weights.groups + static_cast<size_t>(group) * 8;
  Group result;
  result.begin = group == 0 ? 0 : Load<uint32_t>(entry - 8);
  result.end = Load<uint32_t>(entry);
  result.blocks = Load<uint32_t>(entry + 4);
  result.places =
      static_cast<uint32_t>(weights.num_rows(group) / weights.block_rows) *
      static_cast<uint32_t>(weights.columns / weights.block_columns);
  return result;
}

template <typename Sink>
PackedStatus Decode(const PackedWeights& weights, const Group& group,
                    Sink* sink) {
  // A copy, so that what the sink writes cannot be taken for its fields.
  BitReader bits(weights.bits + group.begin, weights.bits + group.end);
  uint32_t place = 0;
  for (uint32_t left = group.blocks; left > 0; --left, ++place) {
    uint32_t gap;
    do {
      if (!bits.Refill()) return PackedStatus::kCorruptGroup;
      gap = bits.Take(weights.gaps, weights.gap_mask);
      place += gap;
      if (place >= group.places) return PackedStatus::kCorruptGroup;
    } while (gap == kSkip);
    if (!sink->Put(weights, place, &bits)) return PackedStatus::kCorruptGroup;
  }
  return bits.AtEnd() ? PackedStatus::kOk : PackedStatus::kCorruptGroup;
}

void ListStored(const PackedWeights& weights, int group,
                const PackedBlocks& blocks) {
  const uint8_t* row =
      weights.groups +
      static_cast<size_t>(weights.first_row(group)) * weights.columns;
  uint32_t count = 0;
  blocks.starts[0] = 0;
  for (int r = 0; r < weights.num_rows(group); ++r, row += weights.columns) {
    for (int c = 0; c < weights.columns; ++c) {
      if (row[c] == 0) continue;
      blocks.columns[count] = static_cast<uint32_t>(c);
      blocks.values[count++] = static_cast<int8_t>(row[c]);
    }
    blocks.starts[r + 1] = count;
  }
}

bool IsPacked(const uint8_t* data, size_t size) {
  return size >= kHeaderBytes && memcmp(data, "TPW1", 4) == 0;
}

}  // namespace

const char* PackedMessage(PackedStatus status) {
  switch (status) {
    case PackedStatus::kOk:
      return "The packed weights are whole.";
    case PackedStatus::kNotPacked:
      return "These are no packed weights: the magic is missing.";
    case PackedStatus::kBadChecksum:
      return "The packed weights are corrupt: checksum differs.";
    case PackedStatus::kBadHeader:
      return "The packed weights are corrupt: impossible header.";
    case PackedStatus::kBadCode:
      return "The packed weights are corrupt: wrong code.";
    case PackedStatus::kCorruptGroup:
      return "The packed weights are corrupt: bits run out or are left over.";
  }
  return "Unknown status.";
}

uint32_t PackedNonzeros(const void* bytes, size_t size) {
  const uint8_t* data = static_cast<const uint8_t*>(bytes);
  return IsPacked(data, size) ? Load<uint32_t>(data + 20) : 0;
}

PackedStatus OpenPacked(const void* bytes, size_t size,
                        PackedWeights* weights) {
  const uint8_t* data = static_cast<const uint8_t*>(bytes);
  if (!IsPacked(data, size)) return PackedStatus::kNotPacked;
  if (Crc32(data + kCheckedFrom, size - kCheckedFrom) !=
      Load<uint32_t>(data + 4)) {
    return PackedStatus::kBadChecksum;
  }
  const int method = data[8], block_rows = data[9], block_columns = data[10];
  const int group_rows = data[11];
  const uint32_t rows = Load<uint32_t>(data + 12);
  const uint32_t columns = Load<uint32_t>(data + 16);
  const uint64_t dense = static_cast<uint64_t>(rows) * columns;
  weights->nonzeros = Load<uint32_t>(data + 20);
  if (method > 1 || block_rows < 1 || block_rows > 64 || block_columns < 1 ||
      block_columns > 64 || block_rows * block_columns > 256 ||
      group_rows < 1 || group_rows > 64 || group_rows % block_rows != 0 ||
      dense == 0 || dense > INT32_MAX || rows % block_rows != 0 ||
      columns % block_columns != 0 || weights->nonzeros > dense) {
    return PackedStatus::kBadHeader;
  }
  weights->rows = static_cast<int>(rows);
  weights->columns = static_cast<int>(columns);
  weights->block_rows = block_rows;
  weights->block_columns = block_columns;
  weights->group_rows = group_rows;
  weights->num_groups = static_cast<int>((rows + group_rows - 1) / group_rows);
  weights->stored = method == 0;
  const uint8_t* at = data + kHeaderBytes;
  const uint8_t* end = data + size;
  if (weights->stored) {
    weights->groups = at;
    weights->max_group_blocks = weights->num_rows(0) * weights->columns;
    const bool right =
        block_rows == 1 && block_columns == 1 && size == kHeaderBytes + dense;
    return right ? PackedStatus::kOk : PackedStatus::kBadHeader;
  }
  if (end - at < 4) return PackedStatus::kBadHeader;
  const uint8_t* ranges = at;
  at += 4;
  PackedStatus status = ReadCode(&at, end, ranges[0], ranges[1], weights->gaps,
                                 &weights->gap_mask);
  if (status != PackedStatus::kOk) return status;
  status = ReadCode(&at, end, ranges[2], ranges[3], weights->values,
                    &weights->value_mask);
  if (status != PackedStatus::kOk) return status;
  const size_t rest = static_cast<size_t>(end - at);
  const size_t num_groups = static_cast<size_t>(weights->num_groups);
  if (rest < kPadding || (rest - kPadding) / 8 < num_groups) {
    return PackedStatus::kBadHeader;
  }
  weights->groups = at;
  weights->bits = at + num_groups * 8;
  const size_t bits = rest - kPadding - num_groups * 8;
  uint32_t last = 0, most = 0;
  for (int i = 0; i < weights->num_groups; ++i) {
    const Group group = GetGroup(*weights, i);
    if (group.end < last || group.end > bits || group.blocks > group.places) {
      return PackedStatus::kBadHeader;
    }
    last = group.end;
    if (group.blocks > most) most = group.blocks;
  }
  weights->max_group_blocks = static_cast<int>(most);
  return last == bits ? PackedStatus::kOk : PackedStatus::kBadHeader;
}

PackedStatus DecodeRows(const PackedWeights& weights, int group, int8_t* rows) {
  const size_t bytes =
      static_cast<size_t>(weights.num_rows(group)) * weights.columns;
  if (weights.stored) {
    const size_t offset =
        static_cast<size_t>(weights.first_row(group)) * weights.columns;
    memcpy(rows, weights.groups + offset, bytes);
    return PackedStatus::kOk;
  }
  memset(rows, 0, bytes);
  const Group place = GetGroup(weights, group);
  if (weights.block_rows == 1 && weights.block_columns == 1) {
    WeightRows sink(rows);
    return Decode(weights, place, &sink);
  }
  BlockRows sink(weights, rows);
  return Decode(weights, place, &sink);
}

PackedStatus DecodeBlocks(const PackedWeights& weights, int group,
                          const PackedBlocks& blocks) {
  if (weights.stored) {
    ListStored(weights, group, blocks);
    return PackedStatus::kOk;
  }
  const Group place = GetGroup(weights, group);
  BlockList sink(weights, blocks);
  const PackedStatus status = Decode(weights, place, &sink);
  sink.EndRows(place.places);
  return status;
}

}  // namespace tf_pof
