// Growing arrays without the C++ standard library.
#ifndef TF_POF_RUNTIME_CC_BUFFER_H_
#define TF_POF_RUNTIME_CC_BUFFER_H_

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace tf_pof {

inline constexpr size_t kCacheLine = 64;

// An array aligned to a cache line. Plain data: all bytes zero is the empty
// array, copying copies the pointer, and its owner calls Free() once. Without
// capacity the memory is somebody else's and only read. Files
// compiled for one instruction set only read `data`: see Min below.
template <typename T>
struct Buffer {
  T* data;
  size_t size;
  size_t capacity;

  // New elements are zero. False, with nothing changed, when memory runs out.
  bool Resize(size_t count) {
    if (count > capacity) {
      const size_t wanted = capacity == 0 ? count : count + count / 2;
      if (wanted > SIZE_MAX / 2 / sizeof(T)) return false;
      const size_t bytes =
          (wanted * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
      void* larger = nullptr;
      if (posix_memalign(&larger, kCacheLine, bytes) != 0) return false;
      if (size > 0) memcpy(larger, data, size * sizeof(T));
      if (capacity > 0) free(data);
      data = static_cast<T*>(larger);
      capacity = bytes / sizeof(T);
    }
    if (count > size) {
      memset(static_cast<void*>(data + size), 0, (count - size) * sizeof(T));
    }
    size = count;
    return true;
  }

  bool Append(const T& value) {
    if (!Resize(size + 1)) return false;
    data[size - 1] = value;
    return true;
  }

  size_t bytes() const { return size * sizeof(T); }

  // Copies elements [begin, end); returns how many.
  size_t CopyTo(T* to, size_t begin, size_t end) const {
    const size_t count = end - begin;
    if (count > 0) {
      memcpy(static_cast<void*>(to), data + begin, count * sizeof(T));
    }
    return count;
  }
  void CopyTo(T* to) const { CopyTo(to, 0, size); }

  // Elements that outlive this array.
  void Borrow(const T* elements, size_t count) {
    Free();
    data = const_cast<T*>(elements);
    size = count;
  }

  void Free() {
    if (capacity > 0) free(data);
    data = nullptr;
    size = capacity = 0;
  }
};

// Internal to each file: files are compiled for different processors, and the
// linker must not share their copies of a function.
template <typename T>
static constexpr T Min(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
static inline T Max(T a, T b) {
  return a < b ? b : a;
}

template <typename T>
static inline T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_BUFFER_H_
