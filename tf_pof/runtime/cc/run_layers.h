// Fully-connected layers on the threads of a pool.
#ifndef TF_POF_RUNTIME_CC_RUN_LAYERS_H_
#define TF_POF_RUNTIME_CC_RUN_LAYERS_H_

#include "buffer.h"
#include "kernel.h"

struct TfPofFullyConnected {
  const tf_pof::Kernel* kernel;
  void* packed;        // owned, the kernel's
  double window_fill;  // see ChooseKernel; 0 if the kernel was given
  int inputs;
  int outputs;
  int units;
  TfPofOutputType type;
  int32_t output_zero_point;
  tf_pof::Buffer<float> scales;  // [outputs], of the epilogue
  bool bounded;                  // see Epilogue
  bool permutes_bytes;           // likewise
  bool has_table;
  uint8_t table[256];
};

namespace tf_pof {

// Bytes that a thread needs for itself in a call for these layers.
size_t ThreadBytes(const TfPofFullyConnected* const* layers, int count);

// TfPofFullyConnectedRunAll. In the workspace thread i has `thread_bytes`, a
// multiple of a cache line, from the first cache line + i * thread_bytes on:
// where all calls agree in that a thread's own memory stays in its cache.
TfPofStatus RunLayers(const TfPofFullyConnected* const* layers, int count,
                      int tokens, const int8_t* input, TfPofLayout input_layout,
                      void* const* outputs, TfPofLayout output_layout,
                      void* workspace, size_t thread_bytes,
                      TfPofThreadPool* pool);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_RUN_LAYERS_H_
