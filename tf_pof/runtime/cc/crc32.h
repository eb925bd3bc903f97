#ifndef TF_POF_RUNTIME_CC_CRC32_H_
#define TF_POF_RUNTIME_CC_CRC32_H_

#include <stddef.h>
#include <stdint.h>

namespace tf_pof {

// zlib's CRC-32.
uint32_t Crc32(const uint8_t* bytes, size_t size);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_CRC32_H_
