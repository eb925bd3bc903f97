// What a Transformer encoder's int8 layers need besides fully-connected ones:
// attention, residual with layer norm, embeddings, quantize and dequantize.
//
// Rows are row-major [tokens, channels], tokens = batch * sequence. A call
// allocates nothing, and its results are the same bits whatever the processor
// and the number of threads. `pool` may be NULL for one thread.
#ifndef TF_POF_RUNTIME_CC_TRANSFORMER_H_
#define TF_POF_RUNTIME_CC_TRANSFORMER_H_

#include <stddef.h>
#include <stdint.h>

#include "fully_connected.h"
#include "thread_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

// Which instructions the functions below take from now on, in all threads: the
// fastest up to `isa`, a name from TfPofIsaName; NULL or "best" for all that
// there are, as from the beginning. For benchmarks.
TfPofStatus TfPofTransformerIsa(const char* isa);

// real = scale * (q - zero_point). To int8: x * (1 / scale) rounded half to
// even, plus zero_point, saturated; NaN becomes 127. These are XNNPACK's
// float32 steps on x86, which LiteRT runs.
typedef struct {
  float scale;  // above 0, and its inverse is finite
  int32_t zero_point;
} TfPofQuantization;

void TfPofQuantize(const float* input, size_t count,
                   TfPofQuantization quantization, int8_t* output);
void TfPofDequantize(const int8_t* input, size_t count,
                     TfPofQuantization quantization, float* output);

// softmax(queries * keys^T * score_scale + mask) * values for each head, as
// Transformer encoders compute it. Head h has channels h * head_size on.
typedef struct {
  int32_t num_heads;
  int32_t head_size;  // at most 32768
  TfPofQuantization query;
  TfPofQuantization key;
  TfPofQuantization value;
  TfPofQuantization output;
  float score_scale;
} TfPofAttentionParams;

// Bytes that a call needs with a pool of `threads`, whatever its batch.
size_t TfPofAttentionWorkspace(const TfPofAttentionParams* params,
                               int32_t sequence, int32_t threads);

// Products of queries and keys are exact; the weights of the values are
// exp(score - highest score) in steps of 2^-15, divided by their sum.
//
// `mask` [batch, sequence] is added to the scores of each key, or is NULL; it
// is clamped to +-1e33, so that keys masked by -infinity count equally if all
// are. `workspace` belongs to this call while it runs and needs no alignment.
TfPofStatus TfPofAttentionRun(const TfPofAttentionParams* params, int32_t batch,
                              int32_t sequence, const int8_t* query,
                              const int8_t* key, const int8_t* value,
                              const float* mask, int8_t* output,
                              void* workspace, TfPofThreadPool* pool);

// y = (r - mean(r)) / sqrt(variance(r) + epsilon) * gamma + beta.
typedef struct {
  int32_t channels;    // at most 8192
  const float* gamma;  // [channels]
  const float* beta;   // [channels]
  float epsilon;
  TfPofQuantization x;  // of int8 inputs
  // [channels] that int8 inputs are multiplied by besides, or NULL.
  const float* x_multipliers;
  TfPofQuantization output;  // of int8 outputs
} TfPofLayerNormParams;

// Layer norm of residual + x, or of the one that is not NULL; x is int8 (`x`)
// or float (`float_x`). Writes float rows, int8 rows or both, and NULL for
// those not wanted; `output` may be `residual` or `float_x`. TFLite's graphs
// compute x * g + (beta - mean * g), which rounds differently in the last bits.
TfPofStatus TfPofLayerNormRun(const TfPofLayerNormParams* params,
                              int32_t tokens, const float* residual,
                              const int8_t* x, const float* float_x,
                              float* output, int8_t* quantized,
                              TfPofThreadPool* pool);

// An int8 embedding table [rows, channels].
typedef struct {
  int32_t rows;
  const int8_t* table;
  TfPofQuantization quantization;
} TfPofTable;

// Layer norm of the sum of a row of each of 1 to 4 tables: that of id
// ids[table][token], or the token's position token % sequence where
// ids[table] is NULL. An id without a row is kTfPofInvalidArgument.
TfPofStatus TfPofEmbeddingsRun(const TfPofTable* tables,
                               const int32_t* const* ids, int32_t num_tables,
                               int32_t tokens, int32_t sequence,
                               const TfPofLayerNormParams* norm, float* output,
                               int8_t* quantized, TfPofThreadPool* pool);

#ifdef __cplusplus
}
#endif

#endif  // TF_POF_RUNTIME_CC_TRANSFORMER_H_
