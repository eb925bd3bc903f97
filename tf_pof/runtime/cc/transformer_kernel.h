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
  // The head's channels of the sequence's first token, `stride` before those
  // of the next.
  size_t stride;
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

// How the values of a layer norm lie in memory. Panels of floats are those of
// fully_connected.h with a float in the place of a byte.
struct NormLayouts {
  bool panels;  // some are panels: the others are converted
  TfPofLayout residual;
  TfPofLayout float_x;
  TfPofLayout x;
  TfPofLayout output;
  TfPofLayout quantized;
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
  NormLayouts layouts;
};

// A panel to normalize.
struct PanelNormTask {
  const TfPofLayerNormParams* params;
  int tokens;  // 1 to 64; what becomes of the others does not matter
  // Sums of these, null for those that are not there: `residual` is, or `x`.
  const float* residual;
  const float* float_x;
  const uint8_t* x;
  // Their sums, which become the outputs if `writes_floats`. May be one of
  // those above.
  float* sums;
  bool only_sums;
  bool writes_floats;
  uint8_t* quantized;  // or null
};

// The name says the instructions. All give the same bits.
struct TransformerKernel {
  const char* name;
  Isa isa;
  void (*attention)(const AttentionTask& task);
  void (*layer_norm)(const NormTask& task);
  void (*embeddings)(const NormTask& task);
  void (*panel_norm)(const PanelNormTask& task);
  // Bytes have `flip`, 0 or that of panels.
  void (*quantize)(const float* input, size_t count,
                   const TfPofQuantization& quantization, int flip,
                   int8_t* output);
  void (*dequantize)(const int8_t* input, size_t count,
                     const TfPofQuantization& quantization, int flip,
                     float* output);
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
const TransformerKernel& BestTransformerKernel(Isa isa);
// That of the public functions: see TfPofTransformerIsa.
const TransformerKernel& ChosenTransformerKernel();

// Bytes that a thread needs for itself; 0 for invalid parameters.
size_t AttentionThreadBytes(const TfPofAttentionParams* params,
                            int32_t sequence, TfPofLayout layout);
// 0 if all are rows.
size_t NormThreadBytes(const NormLayouts& layouts, int channels,
                       bool embeddings);

// The public functions with a kernel of one's choice. In the workspace thread
// i has `thread_bytes`, a multiple of a cache line, from the first cache line +
// i * thread_bytes on. `ticks`, which may be null, are added to. All values of
// attention have one layout, and examples may have one mask [sequence].
TfPofStatus RunAttention(
    const TransformerKernel& kernel, const TfPofAttentionParams* params,
    int32_t batch, int32_t sequence, const int8_t* query, const int8_t* key,
    const int8_t* value, const float* mask, int8_t* output, void* workspace,
    size_t thread_bytes, TfPofThreadPool* pool, AttentionTicks* ticks = nullptr,
    TfPofLayout layout = kTfPofRows, bool one_mask = false);
// Takes a task that lacks only `begin` and `end`.
TfPofStatus RunNorm(const TransformerKernel& kernel, const NormTask& task,
                    int32_t tokens, void* workspace, size_t thread_bytes,
                    TfPofThreadPool* pool);
// norm_panels.cc: what RunNorm does where some values are panels and all are
// valid.
void RunNormPanels(const TransformerKernel& kernel, const NormTask& task,
                   int32_t tokens, void* workspace, size_t thread_bytes,
                   TfPofThreadPool* pool);
bool IsValid(const TfPofQuantization& quantization);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TRANSFORMER_KERNEL_H_
