// The TFLite delegate libtf_pof_delegate.so.
//
// As an external delegate (`load_delegate` of tf.lite and ai-edge-litert) it
// is made by tflite_plugin_create_delegate with string keys and values:
//
//   threads       1 to 256, default 1
//   isa           "best" (default), or the best instructions that may be
//                 used: avx512vbmi, avx512vnni, avxvnni, avx2, i8mm, neondot,
//                 neon, scalar
//   verbose       0 or 1: to stderr, which nodes run here and which do not,
//                 the kernel of each layer and why
//   dry_run       0 or 1: look at the model and take nothing
//   profile       0 or 1: measures how long each step takes; what nobody took
//                 by TfPofDelegateProfile() is printed to stderr at the end
//   tokens        usual tokens of a call, for the choice of kernels; 128
//   min_sparsity  share of zeros from which on dense tensors are worth it; by
//                 default 0.4, for encoders 0 where AVX512-VNNI may be used
//   cache_dir     folder that packed weights are kept in, so that models load
//                 faster the next time and processes share them; made if it
//                 is not there, and may be emptied at any time
//
// Programs in C may link it. Interpreters must be deleted before it.
#ifndef TF_POF_RUNTIME_CC_DELEGATE_H_
#define TF_POF_RUNTIME_CC_DELEGATE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct TfLiteDelegate;

// Null after `report_error` (which may be null) got one sentence.
__attribute__((visibility("default"))) struct TfLiteDelegate*
TfPofDelegateCreate(const char* const* keys, const char* const* values,
                    size_t num_options, void (*report_error)(const char*));
__attribute__((visibility("default"))) void TfPofDelegateDelete(
    struct TfLiteDelegate* delegate);

// A step of a model, or a phase of one, of all calls since the last time.
// Strings are valid while the visitor runs.
typedef struct {
  const char* kind;
  const char* name;  // of weights, or ""
  const char* detail;
  int64_t calls;
  int64_t nanoseconds;
} TfPofProfileStep;

// Hands what was measured with the option `profile` to `visitor`, and forgets
// it. Of interpreters that do not run now and have not been deleted.
__attribute__((visibility("default"))) void TfPofDelegateProfile(
    struct TfLiteDelegate* delegate,
    void (*visitor)(void* context, const TfPofProfileStep* step),
    void* context);

__attribute__((visibility("default"))) struct TfLiteDelegate*
tflite_plugin_create_delegate(const char* const* keys,
                              const char* const* values, size_t num_options,
                              void (*report_error)(const char*));
__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(
    struct TfLiteDelegate* delegate);

#ifdef __cplusplus
}
#endif

#endif  // TF_POF_RUNTIME_CC_DELEGATE_H_
