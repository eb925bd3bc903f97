// What an instruction set's transformer kernels are, and the table of them.
#ifndef TF_POF_RUNTIME_CC_TRANSFORMER_KERNEL_H_
#define TF_POF_RUNTIME_CC_TRANSFORMER_KERNEL_H_

#include "kernel.h"
#include "transformer.h"

namespace tf_pof {

inline constexpr int kMaxChannels = 8192;
inline constexpr int kMaxHeadSize = 32768;
inline constexpr int kMaxTables = 4;
// Queries that are worked on together; parts of a head begin at multiples.
inline constexpr int kQueryRows = 12;

// Of the phases of attention; see ticks.h.
struct AttentionTicks {
  int64_t packing;
  int64_t scores;
  int64_t values;  // and softmax
};

// Some queries of one head of one sequence.
struct AttentionTask {
  const TfPofAttentionParams* params;
  int sequence;
  // The head's channels of the sequence's first token.
  const int8_t* query;
  const int8_t* key;
  const int8_t* value;
  int8_t* output;
  const float* mask;  // [sequence] or null
  int query_begin;
  int query_end;
  bool packed;            // the last task with this scratch had the same head
  uint8_t* scratch;       // that of PlanAttention(), aligned to a cache line
  AttentionTicks* ticks;  // to be added to, or null
};

// Rows to normalize.
struct NormTask {
  const TfPofLayerNormParams* params;
  int begin;
  int end;
  float* output;      // or null
  int8_t* quantized;  // or null
  // Sums of these, null for those that are not there.
  const float* residual;
  const float* float_x;
  const int8_t* x;
  // Or of these.
  const TfPofTable* tables;
  const int32_t* const* ids;
  int num_tables;
  int sequence;
};

// The name says the instructions. All give the same bits.
struct TransformerKernel {
  const char* name;
  Isa isa;
  void (*attention)(const AttentionTask& task);
  void (*layer_norm)(const NormTask& task);
  void (*embeddings)(const NormTask& task);
  void (*quantize)(const float* input, size_t count,
                   const TfPofQuantization& quantization, int8_t* output);
  void (*dequantize)(const int8_t* input, size_t count,
                     const TfPofQuantization& quantization, float* output);
};

// transformer_<instructions>.cc
extern const TransformerKernel kTransformerScalar;
extern const TransformerKernel kTransformerAvx2;
extern const TransformerKernel kTransformerAvxVnni;
extern const TransformerKernel kTransformerAvx512;
extern const TransformerKernel kTransformerNeon;
extern const TransformerKernel kTransformerNeonDot;

// All that were compiled, the oracle first and the fastest last.
extern const TransformerKernel* const kTransformerKernels[];
extern const int kNumTransformerKernels;

// The fastest of this processor with instructions up to `isa`.
const TransformerKernel& BestTransformerKernel(Isa isa = kBestIsa);

// Bytes that a thread needs for itself; 0 for invalid parameters.
size_t AttentionThreadBytes(const TfPofAttentionParams* params,
                            int32_t sequence);

// The public functions with a kernel of one's choice. In the workspace thread
// i has `thread_bytes`, a multiple of a cache line, from the first cache line +
// i * thread_bytes on. `ticks`, which may be null, are added to.
TfPofStatus RunAttention(const TransformerKernel& kernel,
                         const TfPofAttentionParams* params, int32_t batch,
                         int32_t sequence, const int8_t* query,
                         const int8_t* key, const int8_t* value,
                         const float* mask, int8_t* output, void* workspace,
                         size_t thread_bytes, TfPofThreadPool* pool,
                         AttentionTicks* ticks = nullptr);
// Takes a task that lacks only `begin` and `end`, and no tables.
TfPofStatus RunNorm(const TransformerKernel& kernel, NormTask task,
                    int32_t tokens, TfPofThreadPool* pool);
TfPofStatus RunEmbeddings(const TransformerKernel& kernel,
                          const TfPofTable* tables, const int32_t* const* ids,
                          int32_t num_tables, int32_t tokens, int32_t sequence,
                          const TfPofLayerNormParams* norm, float* output,
                          int8_t* quantized, TfPofThreadPool* pool);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TRANSFORMER_KERNEL_H_
