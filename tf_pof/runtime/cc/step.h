// Groups of a model's nodes that the delegate runs as one step each.
#ifndef TF_POF_RUNTIME_CC_STEP_H_
#define TF_POF_RUNTIME_CC_STEP_H_

#include <stdint.h>

#include "buffer.h"
#include "transformer.h"

namespace tf_pof {

enum class StepKind {
  kLinear,      // FULLY_CONNECTED and what follows it element by element
  kAttention,   // from query, key and value rows to the rows of all heads
  kLayerNorm,   // of a sum, with the QUANTIZE of it
  kEmbeddings,  // tables looked up, their sum's layer norm
  kMask,        // int32 padding mask to what is added to scores
  kQuantize,
  kDequantize,
  kView,      // RESHAPE
  kToken,     // one token of each sequence
  kUnpacked,  // makes dense weights of packed ones: nothing to run
};

struct LinearParams {
  int weights;  // tensors: dense or made by kUnpacked
  int packed;   // uint8, or -1 if the weights are dense
  int bias;     // or -1
  int num_inputs;
  int num_outputs;
  bool keep_dims;  // of the input, but for the last
  bool has_table;
  TfPofQuantization input;
  TfPofQuantization output;  // before the table
  int8_t table[256];
  int64_t nonzeros;

  double zeros() const {
    return 1.0 - static_cast<double>(nonzeros) / num_inputs / num_outputs;
  }
};

struct AttentionParams {
  TfPofAttentionParams heads;
  int batch;  // or -1: any
  int sequence;
  int shape;  // tensor: of the output, with -1 for what follows
};

struct LayerNormParams {
  int gamma;  // tensors
  int beta;
  int multipliers;            // of the channels of int8 rows, or -1
  int shape;                  // of the int8 output, or -1: as the float one
  TfPofLayerNormParams norm;  // pointers are set for each call
};

struct EmbeddingsParams {
  int num_tables;
  int tensors[4];
  int first_row[4];
  int sequence;          // as the positions have it; or 0 without
  TfPofTable tables[4];  // pointers are set for each call
  LayerNormParams norm;
};

// y = x + value, value - x or x * value.
struct MaskOperation {
  enum Kind { kAdd, kSubtractFrom, kMultiply } kind;
  float value;
};

struct MaskParams {
  int num_operations;
  int shape;  // tensor, or -1: as the input
  MaskOperation operations[4];
};

// Of values [batch, sequence, channels].
struct TokenParams {
  int token;
  int sequence;
  int channels;
};

struct Step {
  static constexpr int kMaxInputs = 4;
  static constexpr int kMaxOutputs = 2;

  StepKind kind;
  bool claimed;
  // Tensors, -1 where there is none. Where nothing is said: 1 in, 1 out.
  // Attention: query, key, value, mask. Layer norm: residual, int8 x, float x.
  // Embeddings: ids, -1 for positions. The last two have a float and an int8
  // output.
  int inputs[kMaxInputs];
  int outputs[kMaxOutputs];
  union {
    LinearParams linear;
    AttentionParams attention;
    LayerNormParams layer_norm;
    EmbeddingsParams embeddings;
    MaskParams mask;
    TokenParams token;
    TfPofQuantization quantization;
    int shape;  // tensor, of a view
  };
};

inline Step MakeStep(StepKind kind) {
  Step step;
  memset(static_cast<void*>(&step), 0, sizeof(step));
  step.kind = kind;
  for (int& tensor : step.inputs) tensor = -1;
  for (int& tensor : step.outputs) tensor = -1;
  return step;
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_STEP_H_
