// Packed weights: examples by hand, and that hostile bytes do no harm.
//
// Arguments are files of packed weights to change and cut as well.
#include "crc32.h"
#include "packed_weights.h"

#include <string.h>

#include "tests/testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tf_pof {
namespace {

struct Bytes {
  uint8_t data[256];
  size_t size;
};

// Puts the checksum right.
Bytes Sealed(Bytes bytes) {
  const uint32_t crc = Crc32(bytes.data + 8, bytes.size - 8);
  memcpy(bytes.data + 4, &crc, 4);
  return bytes;
}

Bytes Make(std::initializer_list<int> header, std::initializer_list<int> body,
           size_t padding) {
  Bytes bytes = {{'T', 'P', 'W', '1'}, 8};
  for (int number : header) {
    bytes.data[bytes.size++] = static_cast<uint8_t>(number);
  }
  for (int number : body) {
    bytes.data[bytes.size++] = static_cast<uint8_t>(number);
  }
  bytes.size += padding;
  return Sealed(bytes);
}

// Two rows, 0 0 5 0 and -2 0 0 5. Gaps 2, 1, 2 and the symbols of the values,
// 133, 126, 133, alternate; each code has two symbols of one bit.
Bytes Unstructured() {
  return Make({1, 1, 1, 32, 2, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0},
              {1, 2, 126, 133, 0x11, 1, 0, 0, 0x10,  // codes
               1, 0, 0, 0, 3, 0, 0, 0,               // ends at byte 1, 3 gaps
               0b110011},
              16);
}

// Blocks of 2 x 1, the second and third of three: 7 over 7, then 7 over -1.
// All gaps are 1, then 0; values 7 (symbol 135, bit 1) and -1 (127, bit 0).
Bytes Blocks() {
  return Make({1, 2, 1, 2, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0},
              {0, 1, 127, 135, 0x11, 1, 0, 0, 0, 1,
               1, 0, 0, 0, 2, 0, 0, 0,
               0b010111},
              16);
}

Bytes Stored() {
  return Make({0, 1, 1, 1, 2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0},
              {0, 9, 0, 0, 0, 253}, 0);
}

// Valid until the next call.
PackedWeights* Open(const Bytes& bytes, PackedStatus expected) {
  static Bytes opened;
  static PackedWeights weights;
  opened = bytes;
  const PackedStatus status = OpenPacked(opened.data, opened.size, &weights);
  CHECK(status == expected, "%s", PackedMessage(status));
  return &weights;
}

void CheckRows(const PackedWeights& weights, int group,
               std::initializer_list<int> expected) {
  int8_t rows[64];
  memset(rows, 99, sizeof(rows));
  CHECK(DecodeRows(weights, group, rows) == PackedStatus::kOk, "rows");
  const int8_t* found = rows;
  for (int value : expected) {
    CHECK(*found == value, "%d, not %d, at %d", *found, value,
          static_cast<int>(found - rows));
    ++found;
  }
  CHECK(*found == 99, "written past the end");
}

void CheckBlocks(const PackedWeights& weights, int group,
                 std::initializer_list<unsigned> starts,
                 std::initializer_list<unsigned> columns,
                 std::initializer_list<int> values) {
  uint32_t found_starts[8], found_columns[8];
  int8_t found_values[8];
  const PackedBlocks blocks = {found_starts, found_columns, found_values};
  CHECK(DecodeBlocks(weights, group, blocks) == PackedStatus::kOk, "blocks");
  int i = 0;
  for (unsigned start : starts) CHECK(found_starts[i++] == start, "%d", i);
  i = 0;
  for (unsigned column : columns) CHECK(found_columns[i++] == column, "%d", i);
  i = 0;
  for (int value : values) CHECK(found_values[i++] == value, "%d", i);
}

void TestExamples() {
  PackedWeights* weights = Open(Unstructured(), PackedStatus::kOk);
  CHECK(weights->rows == 2 && weights->columns == 4 &&
            weights->num_groups == 1 && weights->nonzeros == 3 &&
            weights->max_group_blocks == 3,
        "header");
  CheckRows(*weights, 0, {0, 0, 5, 0, -2, 0, 0, 5});
  CheckBlocks(*weights, 0, {0, 1, 3}, {2, 0, 3}, {5, -2, 5});
  weights = Open(Blocks(), PackedStatus::kOk);
  CHECK(weights->block_rows == 2 && weights->block_columns == 1, "block");
  CheckRows(*weights, 0, {0, 7, 7, 0, 7, -1});
  CheckBlocks(*weights, 0, {0, 2}, {1, 2}, {7, 7, 7, -1});
  weights = Open(Stored(), PackedStatus::kOk);
  CHECK(weights->num_groups == 2, "groups of one row");
  CheckRows(*weights, 0, {0, 9, 0});
  CheckRows(*weights, 1, {0, 0, -3});
  CheckBlocks(*weights, 1, {0, 1}, {2}, {-3});
}

void TestErrors() {
  Bytes bytes = Unstructured();
  bytes.size = 23;
  Open(bytes, PackedStatus::kNotPacked);
  bytes = Unstructured();
  bytes.data[0] = 'X';
  Open(bytes, PackedStatus::kNotPacked);
  bytes = Unstructured();
  bytes.data[30] ^= 1;
  Open(bytes, PackedStatus::kBadChecksum);
  // Three codes of one bit.
  bytes = Unstructured();
  bytes.data[30] = 0x11;
  Open(Sealed(bytes), PackedStatus::kBadCode);
  // A row more would be a second group's, but there is one only.
  bytes = Unstructured();
  bytes.data[12] = 33;
  Open(Sealed(bytes), PackedStatus::kBadHeader);
  // No columns.
  bytes = Unstructured();
  bytes.data[16] = 0;
  Open(Sealed(bytes), PackedStatus::kBadHeader);
  // The last gap leaves the matrix.
  bytes = Unstructured();
  bytes.data[16] = 3;
  PackedWeights* weights = Open(Sealed(bytes), PackedStatus::kOk);
  int8_t rows[64];
  CHECK(DecodeRows(*weights, 0, rows) == PackedStatus::kCorruptGroup, "rows");
  // Two blocks leave bits over only in the last byte: no harm, but a whole
  // byte more is noticed.
  bytes = Unstructured();
  bytes.data[33] = 2;
  bytes.size += 1;
  weights = Open(Sealed(bytes), PackedStatus::kOk);
  CHECK(DecodeRows(*weights, 0, rows) == PackedStatus::kCorruptGroup, "rest");
}

// Changes every byte in several ways, and cuts everywhere.
void Mutate(const uint8_t* data, size_t size) {
  uint8_t* copy = Allocate<uint8_t>(size);
  memcpy(copy, data, size);
  for (size_t at = 8; at < size; ++at) {
    for (int change : {0x01, 0x10, 0x80, 0xFF}) {
      copy[at] = static_cast<uint8_t>(data[at] ^ change);
      LLVMFuzzerTestOneInput(copy, size);
    }
    copy[at] = data[at];
  }
  for (size_t cut = 0; cut < size; ++cut) LLVMFuzzerTestOneInput(copy, cut);
  Random random = {1};
  for (int i = 0; i < 2000; ++i) {
    memcpy(copy, data, size);
    for (int j = random.Between(2, 8); j > 0; --j) {
      const int at = random.Between(8, static_cast<int>(size) - 1);
      copy[at] = static_cast<uint8_t>(random.Bits());
    }
    LLVMFuzzerTestOneInput(copy, size);
  }
  free(copy);
}

void MutateFile(const char* path) {
  FILE* file = fopen(path, "rb");
  CHECK(file != nullptr && fseek(file, 0, SEEK_END) == 0, "%s", path);
  const size_t size = static_cast<size_t>(ftell(file));
  uint8_t* data = Allocate<uint8_t>(size);
  rewind(file);
  CHECK(fread(data, 1, size, file) == size, "%s", path);
  fclose(file);
  Mutate(data, size);
  free(data);
}

}  // namespace
}  // namespace tf_pof

int main(int argc, char** argv) {
  using namespace tf_pof;
  CHECK(Crc32(reinterpret_cast<const uint8_t*>("123456789"), 9) == 0xCBF43926u,
        "the standard's check value");
  TestExamples();
  TestErrors();
  for (const Bytes& bytes : {Unstructured(), Blocks(), Stored()}) {
    Mutate(bytes.data, bytes.size);
  }
  for (int i = 1; i < argc; ++i) MutateFile(argv[i]);
  return 0;
}
