// Packed weights as they stand in files: the arrays that a kernel packs.
//
// What a file says is believed of nothing: a kernel's pack function, given
// arrays in the place of weights, checks their sizes and each number in them
// that leads to memory. Whatever the rest is, a call stays inside its buffers.
#ifndef TF_POF_RUNTIME_CC_STORED_H_
#define TF_POF_RUNTIME_CC_STORED_H_

#include "buffer.h"
#include "fully_connected.h"

namespace tf_pof {

// To be changed with whatever kernels pack, for builds that do not tell sources
// apart (CMakeLists.txt does): files of others are not read.
inline constexpr uint32_t kStoredVersion = 2;

struct StoredArrays {
  static constexpr int kMax = 6;
  struct Array {
    const void* data;  // aligned to a cache line
    size_t bytes;
  };
  Array arrays[kMax];
  int count;

  template <typename T>
  void Add(const Buffer<T>& buffer) {
    arrays[count++] = {buffer.data, buffer.bytes()};
  }

  // Array i of `size` elements, which stays where it is; false if it has
  // another size.
  template <typename T>
  bool Take(int i, size_t size, Buffer<T>* buffer) const {
    return i < count && arrays[i].bytes == size * sizeof(T) && Take(i, buffer);
  }
  // Of any size.
  template <typename T>
  bool Take(int i, Buffer<T>* buffer) const {
    if (i >= count || arrays[i].bytes % sizeof(T) != 0) return false;
    buffer->Borrow(static_cast<const T*>(arrays[i].data),
                   arrays[i].bytes / sizeof(T));
    return true;
  }
};

// Where lists begin in an array of `end`: from 0 on, never back, up to all.
template <typename T>
static inline bool ValidStarts(const Buffer<T>& starts, size_t end) {
  if (starts.size == 0 || starts.data[0] != 0) return false;
  for (size_t i = 1; i < starts.size; ++i) {
    if (starts.data[i] < starts.data[i - 1]) return false;
  }
  return starts.data[starts.size - 1] == end;
}

// TfPofFullyConnectedCreate, but `stored` is taken over where it is, and must
// outlive the layer, if it is not null. kTfPofInvalidArgument if it does not
// fit.
TfPofStatus CreateLayer(const TfPofFullyConnectedParams& params,
                        const char* kernel, int32_t tokens,
                        TfPofThreadPool* pool, const StoredArrays* stored,
                        TfPofFullyConnected** result);

// The arrays of a layer; false if its kernel's are not for files.
bool ListArrays(const TfPofFullyConnected* layer, StoredArrays* arrays);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_STORED_H_
