#include "crc32.h"

#include <string.h>

namespace tf_pof {
namespace {

struct CrcTables {
  uint32_t at[8][256];
};

constexpr CrcTables MakeCrcTables() {
  CrcTables tables = {};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    tables.at[0][i] = crc;
  }
  for (int k = 1; k < 8; ++k) {
    for (int i = 0; i < 256; ++i) {
      const uint32_t crc = tables.at[k - 1][i];
      tables.at[k][i] = crc >> 8 ^ tables.at[0][crc & 255];
    }
  }
  return tables;
}

constexpr CrcTables kCrc = MakeCrcTables();

}  // namespace

uint32_t Crc32(const uint8_t* bytes, size_t size) {
  uint32_t crc = ~0u;
  for (; size >= 8; size -= 8, bytes += 8) {
    // Little-endian, as all processors that this is built for.
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    word ^= crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kCrc.at[7 - i][word >> (8 * i) & 255];
  }
  for (; size > 0; --size) {
    crc = crc >> 8 ^ kCrc.at[0][(crc ^ *bytes++) & 255];
  }
  return ~crc;
}

}  // namespace tf_pof
