// Checks and random numbers for the tests, without the C++ standard library.
#ifndef TF_POF_RUNTIME_CC_TESTS_TESTING_H_
#define TF_POF_RUNTIME_CC_TESTS_TESTING_H_

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <initializer_list>

// Stops the test with a message in printf's form.
#define CHECK(condition, ...)                                         \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      fprintf(stderr, __VA_ARGS__);                                   \
      fprintf(stderr, "\n");                                          \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

// Numerical Recipes' generator: the same numbers everywhere.
struct Random {
  uint64_t state;

  uint32_t Bits() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 32);
  }
  int Between(int low, int high) {
    return low +
           static_cast<int>(Bits() % static_cast<uint32_t>(high - low + 1));
  }
};

// An array that sanitizers watch to the byte.
template <typename T>
T* Allocate(size_t count) {
  void* data = nullptr;
  CHECK(posix_memalign(&data, 64, count * sizeof(T) + (count == 0)) == 0,
        "no memory for %zu elements", count);
  return static_cast<T*>(data);
}

#endif  // TF_POF_RUNTIME_CC_TESTS_TESTING_H_
