// The time, for profiles.
#ifndef TF_POF_RUNTIME_CC_TICKS_H_
#define TF_POF_RUNTIME_CC_TICKS_H_

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tf_pof {

static inline int64_t Nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// Of no known unit, but read in a few cycles.
static inline int64_t Ticks() {
#if defined(__x86_64__)
  return static_cast<int64_t>(__rdtsc());
#elif defined(__aarch64__)
  int64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return Nanoseconds();
#endif
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TICKS_H_
