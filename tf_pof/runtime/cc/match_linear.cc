#include <math.h>

#include "match.h"
#include "packed_weights.h"
#include "processors.h"
#include "thread_pool.h"

namespace tf_pof {
namespace {

// Symmetric, one scale for all outputs or one each.
bool ValidWeights(const Graph& graph, int tensor, int outputs) {
  const TfLiteQuantization& found = graph.tensor(tensor)->quantization;
  if (found.type != kTfLiteAffineQuantization || found.params == nullptr) {
    return false;
  }
  const auto& params =
      *static_cast<const TfLiteAffineQuantizationParams*>(found.params);
  if (params.scale == nullptr || params.zero_point == nullptr ||
      (params.scale->size != 1 && params.scale->size != outputs) ||
      (params.scale->size > 1 && params.quantized_dimension != 0)) {
    return false;
  }
  for (int i = 0; i < params.scale->size; ++i) {
    const float scale = params.scale->data[i];
    if (!isfinite(scale) || scale <= 0) return false;
  }
  for (int i = 0; i < params.zero_point->size; ++i) {
    if (params.zero_point->data[i] != 0) return false;
  }
  return true;
}

int64_t CountNonzeros(const int8_t* values, int64_t count) {
  int64_t found = 0;
  while (count > 0) {
    // Short enough for the compiler to count in small integers.
    const int some = static_cast<int>(Min<int64_t>(count, 4096));
    int nonzeros = 0;
    for (int i = 0; i < some; ++i) nonzeros += values[i] != 0;
    found += nonzeros;
    values += some;
    count -= some;
  }
  return found;
}

int64_t NumDenseWeights(const Step& step) {
  const LinearParams& linear = step.linear;
  const bool dense = step.kind == StepKind::kLinear && linear.packed < 0;
  return dense ? int64_t{linear.num_inputs} * linear.num_outputs : 0;
}

bool IsPackedCode(const Graph& graph, int node) {
  return graph.Is(node, kTfLiteBuiltinCustom) &&
         graph.nodes.data[node].custom_name != nullptr &&
         strcmp(graph.nodes.data[node].custom_name, kPackedCode) == 0;
}

// The tensor of packed bytes behind a node, or -1.
int PackedBytes(const Graph& graph, int node) {
  const int bytes = graph.Input(node, 0);
  const bool valid = IsPackedCode(graph, node) && graph.NumInputs(node) == 1 &&
                     graph.IsConstant(bytes) &&
                     graph.IsType(bytes, kTfLiteUInt8) &&
                     graph.Rank(bytes) == 1 && graph.Dim(bytes, 0) > 0;
  return valid ? bytes : -1;
}

// Finds where the weights are; dense ones are counted later.
bool FindWeights(const Graph& graph, LinearParams* linear) {
  const int64_t count =
      int64_t{linear->num_inputs} * int64_t{linear->num_outputs};
  linear->packed = -1;
  if (graph.ConstantInt8(linear->weights, count) != nullptr) return true;
  linear->packed =
      PackedBytes(graph, graph.Producer(linear->weights, kTfLiteBuiltinCustom));
  if (linear->packed < 0) return false;
  // What is corrupt is told when the weights are read.
  const TfLiteTensor& bytes = *graph.tensor(linear->packed);
  linear->nonzeros =
      Min<int64_t>(PackedNonzeros(bytes.data.data, bytes.bytes), count);
  return true;
}

bool FindActivation(const Graph& graph, int node, LinearParams* linear) {
  const int activation =
      graph.Options<TfLiteFullyConnectedParams>(node)->activation;
  const TfPofQuantization& q = linear->output;
  float lowest, highest;
  switch (activation) {
    case kTfLiteActNone:
      return true;
    case kTfLiteActRelu:
      lowest = 0, highest = INFINITY;
      break;
    case kTfLiteActRelu6:
      lowest = 0, highest = 6;
      break;
    case kTfLiteActReluN1To1:
      lowest = -1, highest = 1;
      break;
    default:
      return false;
  }
  const float low = Max(-128.0f, q.zero_point + roundf(lowest / q.scale));
  const float high = Min(127.0f, q.zero_point + roundf(highest / q.scale));
  linear->has_table = true;
  for (int i = 0; i < 256; ++i) {
    linear->table[i] = static_cast<int8_t>(Max(low, Min(high, i - 128.0f)));
  }
  return low <= high;
}

// A GELU that alone reads the output goes into the table.
void TakeGelu(const Graph& graph, Step* step, NodeList* nodes) {
  const int node = graph.OnlyConsumer(step->outputs[0], kTfLiteBuiltinGelu);
  TfPofQuantization output;
  if (node < 0 || !graph.Quantization(graph.Output(node, 0), &output) ||
      graph.Options<TfLiteGeluParams>(node) == nullptr || !nodes->Add(node)) {
    return;
  }
  LinearParams& linear = step->linear;
  int8_t gelu[256];
  TfPofGeluTable(linear.output.scale, linear.output.zero_point, output.scale,
                 output.zero_point,
                 graph.Options<TfLiteGeluParams>(node)->approximate, gelu);
  for (int i = 0; i < 256; ++i) {
    linear.table[i] = gelu[linear.has_table ? linear.table[i] + 128 : i];
  }
  linear.has_table = true;
  step->outputs[0] = graph.Output(node, 0);
}

// So does a tanh between DEQUANTIZE and QUANTIZE, a pooler's.
void TakeTanh(const Graph& graph, Step* step, NodeList* nodes) {
  const int dequantize =
      graph.OnlyConsumer(step->outputs[0], kTfLiteBuiltinDequantize);
  const int tanh =
      graph.OnlyConsumer(graph.Output(dequantize, 0), kTfLiteBuiltinTanh);
  const int quantize =
      graph.OnlyConsumer(graph.Output(tanh, 0), kTfLiteBuiltinQuantize);
  TfPofQuantization input, output;
  if (quantize < 0 || !graph.Quantization(step->outputs[0], &input) ||
      !graph.Quantization(graph.Output(quantize, 0), &output) ||
      !nodes->Add(dequantize) || !nodes->Add(tanh) || !nodes->Add(quantize)) {
    return;
  }
  LinearParams& linear = step->linear;
  for (int i = 0; !linear.has_table && i < 256; ++i) {
    linear.table[i] = static_cast<int8_t>(i - 128);
  }
  float values[256];
  TfPofDequantize(linear.table, 256, input, values);
  for (float& value : values) value = tanhf(value);
  TfPofQuantize(values, 256, output, linear.table);
  linear.has_table = true;
  step->outputs[0] = graph.Output(quantize, 0);
}

}  // namespace

bool MatchLinear(const Graph& graph, int node, Step* step, NodeList* nodes) {
  if (!graph.Is(node, kTfLiteBuiltinFullyConnected)) return false;
  const auto* options = graph.Options<TfLiteFullyConnectedParams>(node);
  if (options == nullptr || options->weights_format != 0) return false;
  *step = MakeStep(StepKind::kLinear);
  LinearParams& linear = step->linear;
  step->inputs[0] = graph.Input(node, 0);
  step->outputs[0] = graph.Output(node, 0);
  linear.weights = graph.Input(node, 1);
  linear.bias = graph.Input(node, 2);
  linear.num_outputs = graph.Dim(linear.weights, 0);
  linear.num_inputs = graph.Dim(linear.weights, 1);
  linear.keep_dims = options->keep_num_dims;
  if (graph.Rank(linear.weights) != 2 || linear.num_outputs < 1 ||
      linear.num_inputs < 1 || !graph.IsType(linear.weights, kTfLiteInt8) ||
      graph.Dim(step->inputs[0], -1) != linear.num_inputs ||
      graph.IsConstant(step->inputs[0]) ||
      !graph.Quantization(step->inputs[0], &linear.input) ||
      !graph.Quantization(step->outputs[0], &linear.output) ||
      !ValidWeights(graph, linear.weights, linear.num_outputs)) {
    return false;
  }
  if (linear.bias >= 0 &&
      graph.ConstantInts(linear.bias, linear.num_outputs) == nullptr) {
    return false;
  }
  if (!FindWeights(graph, &linear) || !FindActivation(graph, node, &linear) ||
      !nodes->Add(node)) {
    return false;
  }
  TakeGelu(graph, step, nodes);
  TakeTanh(graph, step, nodes);
  return true;
}

void CountZeros(Match* match) {
  constexpr int64_t kWorthThreads = 1 << 20;
  int64_t weights = 0;
  for (size_t i = 0; i < match->steps.size; ++i) {
    weights += NumDenseWeights(match->steps.data[i]);
  }
  TfPofThreadPool* pool =
      weights > kWorthThreads ? TfPofThreadPoolCreate(Processors()) : nullptr;
  TfPofThreadPoolRun(
      pool, static_cast<int32_t>(match->steps.size),
      [](void* context, int32_t i, int32_t) {
        const Match& counted = *static_cast<Match*>(context);
        Step& step = counted.steps.data[i];
        const int64_t count = NumDenseWeights(step);
        if (count == 0) return;
        step.linear.nonzeros = CountNonzeros(
            counted.graph->tensor(step.linear.weights)->data.int8, count);
      },
      match);
  TfPofThreadPoolDelete(pool);
}

bool MatchUnpacked(const Graph& graph, int node, Step* step, NodeList* nodes) {
  if (PackedBytes(graph, node) < 0) return false;
  *step = MakeStep(StepKind::kUnpacked);
  return nodes->Add(node);
}

}  // namespace tf_pof
