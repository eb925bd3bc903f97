// Sparse int8 fully-connected layers: weights are packed once for one kernel,
// then run for any number of tokens.
//
//   accumulator[m][n] = bias[n] + sum_k weights[n][k] * (input[m][k] - zp)
//
// in int32 that wraps around, the same bits whatever the kernel, the number of
// threads and the layout. An int8 output is
//
//   clamp(round(accumulator * scale[n]) + output_zero_point, -128, 127),
//   scale[n] = input_scale * weight_scale[n] / output_scale in float32,
//
// rounded half to even: XNNPACK's fp32 requantization, which is what LiteRT
// runs, bit for bit. TFLite's reference kernels multiply by a 31-bit fixed
// point number instead and may differ by one where the two round apart.
#ifndef TF_POF_RUNTIME_CC_FULLY_CONNECTED_H_
#define TF_POF_RUNTIME_CC_FULLY_CONNECTED_H_

#include <stddef.h>
#include <stdint.h>

#include "thread_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  kTfPofOk = 0,
  kTfPofInvalidArgument = 1,
  kTfPofOutOfMemory = 2,
  // No kernel or instruction set of that name, or not on this processor.
  kTfPofNoKernel = 3,
} TfPofStatus;

typedef enum {
  kTfPofInt8 = 0,     // requantized, then looked up in `table` if there is one
  kTfPofFloat32 = 1,  // accumulator * input_scale * weight_scale[n]
  kTfPofInt32 = 2,    // the accumulator itself
} TfPofOutputType;

typedef enum {
  kTfPofRows = 0,    // [tokens, channels], as in a TFLite tensor
  kTfPofPanels = 1,  // TfPofPanelBytes(): the kernels' own, int8 only
} TfPofLayout;

// Writes rows [first_row, first_row + rows) of the weights, int8
// [rows, num_inputs]. Called from the pool's threads, more than once a row.
typedef TfPofStatus (*TfPofReadRows)(void* context, int32_t first_row,
                                     int32_t rows, int8_t* weights);

// A layer as the model has it. Nothing is kept: everything may be freed once
// TfPofFullyConnectedCreate returns.
typedef struct {
  int32_t num_inputs;
  int32_t num_outputs;
  // [num_outputs, num_inputs], symmetric; or NULL, and they are read by
  // `read_rows`, at most 256 rows at a time, so that they never need to be in
  // memory as a whole.
  const int8_t* weights;
  TfPofReadRows read_rows;
  void* read_context;
  const float* weight_scales;  // [num_weight_scales]
  int32_t num_weight_scales;   // 1 or num_outputs
  const int32_t* bias;         // [num_outputs], or NULL for zeros
  float input_scale;
  int32_t input_zero_point;
  float output_scale;  // for kTfPofInt8, as is the zero point
  int32_t output_zero_point;
  TfPofOutputType output_type;
  // An int8 function of the int8 output (GELU, ReLU, ...), or NULL:
  // y = table[x + 128]. See TfPofGeluTable.
  const int8_t* table;
  // The best instructions that may be used, a name from TfPofIsaName; or NULL
  // or "best" for all that there are.
  const char* isa;
} TfPofFullyConnectedParams;

// Packed weights. Immutable: any number of threads may run one at a time each.
typedef struct TfPofFullyConnected TfPofFullyConnected;

// Packs `params`. `kernel` is a name from TfPofKernelName, or NULL to choose
// by the zeros that there are and by `tokens`, the usual number of tokens of a
// call. `pool` may be NULL. An error of `read_rows` is returned as it is.
TfPofStatus TfPofFullyConnectedCreate(const TfPofFullyConnectedParams* params,
                                      const char* kernel, int32_t tokens,
                                      TfPofThreadPool* pool,
                                      TfPofFullyConnected** result);
void TfPofFullyConnectedDelete(TfPofFullyConnected* layer);

// What was chosen, and the bytes that the packed weights take.
const char* TfPofFullyConnectedKernel(const TfPofFullyConnected* layer);
size_t TfPofFullyConnectedBytes(const TfPofFullyConnected* layer);

// Bytes that a call needs with a pool of `threads`, whatever its tokens.
size_t TfPofFullyConnectedWorkspace(const TfPofFullyConnected* layer,
                                    int32_t threads);
// The same of a call for several layers.
size_t TfPofFullyConnectedWorkspaceAll(const TfPofFullyConnected* const* layers,
                                       int32_t count, int32_t threads);

// Runs the layer on `tokens` >= 1 tokens. `workspace` belongs to this call
// while it runs and needs no alignment; `pool` may be NULL for one thread.
// Panels must be aligned to 64 bytes; only int8 outputs may be panels.
TfPofStatus TfPofFullyConnectedRun(const TfPofFullyConnected* layer,
                                   int32_t tokens, const int8_t* input,
                                   TfPofLayout input_layout, void* output,
                                   TfPofLayout output_layout, void* workspace,
                                   TfPofThreadPool* pool);

// Runs `count` layers that read the same input, as queries, keys and values do.
// What kernels make of the input is made once for layers of the same kernel
// that follow each other, and threads share the work of all.
TfPofStatus TfPofFullyConnectedRunAll(
    const TfPofFullyConnected* const* layers, int32_t count, int32_t tokens,
    const int8_t* input, TfPofLayout input_layout, void* const* outputs,
    TfPofLayout output_layout, void* workspace, TfPofThreadPool* pool);

// Panels hold 64 tokens a channel, [ceil(tokens / 64)][channels][64]; what a
// byte means depends on the processor, so only these functions read them.
size_t TfPofPanelBytes(int32_t tokens, int32_t channels);
void TfPofToPanels(const int8_t* rows, int32_t tokens, int32_t channels,
                   int8_t* panels);
void TfPofFromPanels(const int8_t* panels, int32_t tokens, int32_t channels,
                     int8_t* rows);

// The kernels that this processor runs; NULL from the count on.
int32_t TfPofKernelCount(void);
const char* TfPofKernelName(int32_t index);

// The instruction sets that this processor has, the best first and "scalar"
// last; NULL from the count on.
const char* TfPofIsaName(int32_t index);

// GELU from one quantization to another, rounded as TFLite's lookup tables
// are. `approximate` is the tanh form of Hendrycks and Gimpel 2016.
void TfPofGeluTable(float input_scale, int32_t input_zero_point,
                    float output_scale, int32_t output_zero_point,
                    int32_t approximate, int8_t table[256]);

#ifdef __cplusplus
}
#endif

#endif  // TF_POF_RUNTIME_CC_FULLY_CONNECTED_H_
