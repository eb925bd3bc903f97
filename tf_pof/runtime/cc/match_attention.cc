#include <math.h>

#include "match.h"

namespace tf_pof {
namespace {

// Permutations of [batch, sequence, heads, size], as rows are.
constexpr int32_t kHeadsFirst[4] = {0, 2, 1, 3};
constexpr int32_t kKeysLast[4] = {0, 2, 3, 1};

bool IsPermutation(const Graph& graph, int node, const int32_t* wanted) {
  const int32_t* found = graph.ConstantInts(graph.Input(node, 1), 4);
  return graph.Is(node, kTfLiteBuiltinTranspose) && found != nullptr &&
         memcmp(found, wanted, 4 * sizeof(int32_t)) == 0;
}

// An operand of a BATCH_MATMUL: rows seen as heads.
struct Operand {
  int rows;  // int8 tensor
  TfPofQuantization quantization;
  float scale;  // it is multiplied by
  int32_t batch;
  int32_t sequence;
  int32_t heads;
  int32_t size;

  bool SameHeads(const Operand& other) const {
    return batch == other.batch && sequence == other.sequence &&
           heads == other.heads && size == other.size;
  }
};

// Follows `tensor`, which only `reader` reads, up to int8 rows through a
// TRANSPOSE by `permutation`, behind it a RESHAPE to heads, and somewhere a
// DEQUANTIZE and scales.
bool FindOperand(const Graph& graph, int tensor, int reader,
                 const int32_t* permutation, Operand* operand,
                 NodeList* nodes) {
  *operand = {};
  operand->scale = 1;
  bool dequantized = false, transposed = false, reshaped = false;
  while (!dequantized || !reshaped) {
    if (tensor < 0 || graph.OnlyConsumer(tensor) != reader) return false;
    const int node = graph.producers.data[tensor];
    const int input = graph.Input(node, 0);
    float factor;
    bool reversed;
    const int scaled =
        ScalarOperand(graph, node, kTfLiteBuiltinMul, &factor, &reversed);
    if (graph.Is(node, kTfLiteBuiltinDequantize) && !dequantized) {
      if (!graph.IsType(tensor, kTfLiteFloat32) ||
          !graph.Quantization(input, &operand->quantization)) {
        return false;
      }
      dequantized = true;
      tensor = input;
    } else if (scaled >= 0) {
      operand->scale *= factor;
      tensor = scaled;
    } else if (!transposed && IsPermutation(graph, node, permutation)) {
      transposed = true;
      tensor = input;
    } else if (transposed && !reshaped && ReshapeShape(graph, node) >= 0) {
      const int32_t* shape = graph.ConstantInts(ReshapeShape(graph, node), 4);
      if (shape == nullptr) return false;
      operand->batch = shape[0];
      operand->sequence = shape[1];
      operand->heads = shape[2];
      operand->size = shape[3];
      reshaped = true;
      tensor = input;
    } else {
      return false;
    }
    if (!nodes->Add(node)) return false;
    reader = node;
  }
  operand->rows = tensor;
  constexpr int32_t kMax = 1 << 15;
  return operand->sequence > 0 && operand->sequence <= kMax &&
         operand->heads > 0 && operand->heads <= kMax && operand->size > 0 &&
         operand->size <= kMax &&
         (operand->batch == -1 || operand->batch > 0) &&
         graph.IsType(tensor, kTfLiteInt8) && !graph.IsConstant(tensor) &&
         graph.Dim(tensor, -1) == operand->heads * operand->size;
}

// Whether `tensor` may be added to scores [batch, heads, from, to] as a mask
// of the keys.
bool IsMask(const Graph& graph, int tensor) {
  return graph.IsType(tensor, kTfLiteFloat32) && graph.Rank(tensor) == 4 &&
         graph.Dim(tensor, 1) == 1 && graph.Dim(tensor, 2) == 1;
}

// Follows scores up from the SOFTMAX to the BATCH_MATMUL, or -1.
int FindScores(const Graph& graph, int reader, Step* step, NodeList* nodes) {
  int tensor = graph.Input(reader, 0);
  bool scaled = false;
  for (;;) {
    if (graph.OnlyConsumer(tensor) != reader ||
        !graph.IsType(tensor, kTfLiteFloat32)) {
      return -1;
    }
    const int node = graph.producers.data[tensor];
    if (graph.Is(node, kTfLiteBuiltinBatchMatmul)) return node;
    float factor;
    bool reversed;
    const int unscaled =
        ScalarOperand(graph, node, kTfLiteBuiltinMul, &factor, &reversed);
    if (unscaled >= 0) {
      step->attention.heads.score_scale *= factor;
      scaled = true;
      tensor = unscaled;
    } else if (graph.IsPlain(node, kTfLiteBuiltinAdd) && !scaled &&
               step->inputs[3] < 0) {
      const int second = IsMask(graph, graph.Input(node, 1)) ? 1 : 0;
      step->inputs[3] = graph.Input(node, second);
      tensor = graph.Input(node, 1 - second);
      if (!IsMask(graph, step->inputs[3])) return -1;
    } else {
      return -1;
    }
    if (tensor < 0 || !nodes->Add(node)) return -1;
    reader = node;
  }
}

// Follows the product of weights and values down to int8 rows.
bool FindOutput(const Graph& graph, int tensor, Step* step, NodeList* nodes) {
  bool quantized = false, transposed = false, reshaped = false;
  while (!quantized || !reshaped) {
    const int node = graph.OnlyConsumer(tensor);
    if (node < 0 || graph.Input(node, 0) != tensor) return false;
    tensor = graph.Output(node, 0);
    if (graph.Is(node, kTfLiteBuiltinQuantize) && !quantized) {
      if (!graph.Quantization(tensor, &step->attention.heads.output)) {
        return false;
      }
      quantized = true;
    } else if (!transposed && IsPermutation(graph, node, kHeadsFirst)) {
      transposed = true;
    } else if (transposed && !reshaped && ReshapeShape(graph, node) >= 0) {
      step->attention.shape = ReshapeShape(graph, node);
      reshaped = true;
    } else {
      return false;
    }
    if (!nodes->Add(node)) return false;
  }
  step->outputs[0] = tensor;
  return graph.IsType(tensor, kTfLiteInt8) &&
         graph.Dim(tensor, -1) ==
         step->attention.heads.num_heads * step->attention.heads.head_size;
}

const TfLiteBatchMatMulParams* MatMul(const Graph& graph, int node) {
  if (!graph.Is(node, kTfLiteBuiltinBatchMatmul)) return nullptr;
  const auto* options = graph.Options<TfLiteBatchMatMulParams>(node);
  return options == nullptr || options->adj_x ? nullptr : options;
}

}  // namespace

bool MatchAttention(const Graph& graph, int softmax, Step* step,
                    NodeList* nodes) {
  if (!graph.Is(softmax, kTfLiteBuiltinSoftmax)) return false;
  const auto* options = graph.Options<TfLiteSoftmaxParams>(softmax);
  if (options == nullptr || options->beta != 1.0f || !nodes->Add(softmax)) {
    return false;
  }
  *step = MakeStep(StepKind::kAttention);
  TfPofAttentionParams& heads = step->attention.heads;
  heads.score_scale = 1;
  const int scores = FindScores(graph, softmax, step, nodes);
  const int weights = graph.Output(softmax, 0);
  const int values = graph.OnlyConsumer(weights, kTfLiteBuiltinBatchMatmul);
  const TfLiteBatchMatMulParams* first = MatMul(graph, scores);
  const TfLiteBatchMatMulParams* second = MatMul(graph, values);
  if (first == nullptr || second == nullptr ||
      graph.Input(values, 0) != weights || !nodes->Add(scores) ||
      !nodes->Add(values)) {
    return false;
  }
  Operand q, k, v;
  if (!FindOperand(graph, graph.Input(scores, 0), scores, kHeadsFirst, &q,
                   nodes) ||
      !FindOperand(graph, graph.Input(scores, 1), scores,
                   first->adj_y ? kHeadsFirst : kKeysLast, &k, nodes) ||
      !FindOperand(graph, graph.Input(values, 1), values,
                   second->adj_y ? kKeysLast : kHeadsFirst, &v, nodes) ||
      !q.SameHeads(k) || !q.SameHeads(v) || v.scale != 1) {
    return false;
  }
  step->inputs[0] = q.rows;
  step->inputs[1] = k.rows;
  step->inputs[2] = v.rows;
  step->attention.batch = q.batch;
  step->attention.sequence = q.sequence;
  heads.num_heads = q.heads;
  heads.head_size = q.size;
  heads.query = q.quantization;
  heads.key = k.quantization;
  heads.value = v.quantization;
  heads.score_scale *= q.scale * k.scale;
  const int mask = step->inputs[3];
  if (!isfinite(heads.score_scale) ||
      (mask >= 0 && graph.Dim(mask, 3) != q.sequence)) {
    return false;
  }
  return FindOutput(graph, graph.Output(values, 0), step, nodes);
}

}  // namespace tf_pof
