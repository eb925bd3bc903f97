// A model under the delegate from its bytes (fake_tflite.h), and changes of it.
#ifndef TF_POF_RUNTIME_CC_TESTS_MODEL_FUZZ_H_
#define TF_POF_RUNTIME_CC_TESTS_MODEL_FUZZ_H_

#include <stddef.h>
#include <stdint.h>

#include "tests/testing.h"

namespace tf_pof {

struct ModelRun {
  int planned;    // nodes, once the delegate has taken its own
  int delegated;  // among them
  int calls;      // that succeeded
};

// Loads, prepares and calls the model, again with another batch if it says so.
ModelRun RunModel(const uint8_t* bytes, size_t size);

// Changes a field or some bytes of one record, and no sizes.
void ChangeModel(uint8_t* bytes, size_t size, Random* random);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TESTS_MODEL_FUZZ_H_
