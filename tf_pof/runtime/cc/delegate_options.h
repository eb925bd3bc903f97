// The delegate's options, from strings.
#ifndef TF_POF_RUNTIME_CC_DELEGATE_OPTIONS_H_
#define TF_POF_RUNTIME_CC_DELEGATE_OPTIONS_H_

#include <stddef.h>

#include "weights_file.h"

namespace tf_pof {

struct DelegateOptions {
  int threads;
  bool verbose;
  bool dry_run;
  bool profile;
  int tokens;
  double min_sparsity;          // of a lone layer
  double min_encoder_sparsity;  // of all layers of encoders together
  char isa[16];
  char cache_dir[kMaxFolder];  // or empty
};

inline constexpr int kMaxOptionError = 256;

// Defaults where there is no key. False with one sentence in `error`.
bool ParseOptions(const char* const* keys, const char* const* values,
                  size_t count, DelegateOptions* options,
                  char error[kMaxOptionError]);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_DELEGATE_OPTIONS_H_
