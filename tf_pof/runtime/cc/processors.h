// How many threads to load a model with, which nothing else can run before.
#ifndef TF_POF_RUNTIME_CC_PROCESSORS_H_
#define TF_POF_RUNTIME_CC_PROCESSORS_H_

#include <stdint.h>
#include <unistd.h>

#include "buffer.h"

namespace tf_pof {

static inline int32_t Processors() {
  constexpr long kMost = 16;
  return static_cast<int32_t>(
      Max(1L, Min(sysconf(_SC_NPROCESSORS_ONLN), kMost)));
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PROCESSORS_H_
