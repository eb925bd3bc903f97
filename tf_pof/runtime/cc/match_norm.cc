#include <math.h>

#include "match.h"

namespace tf_pof {
namespace {

// The mean over the last dimension of what it returns, or -1.
int MeanOf(const Graph& graph, int node) {
  if (!graph.Is(node, kTfLiteBuiltinMean)) return -1;
  const auto* options = graph.Options<TfLiteReducerParams>(node);
  const int input = graph.Input(node, 0);
  const int32_t* axis = graph.ConstantInts(graph.Input(node, 1), 1);
  if (options == nullptr || !options->keep_dims || axis == nullptr ||
      !graph.IsType(input, kTfLiteFloat32) ||
      (*axis != -1 && *axis != graph.Rank(input) - 1)) {
    return -1;
  }
  return input;
}

// The other operand of a plain ADD, SUB or MUL that has `operand`, or -1.
int OtherOperand(const Graph& graph, int node, int op, int operand) {
  if (!graph.IsPlain(node, op)) return -1;
  const int a = graph.Input(node, 0), b = graph.Input(node, 1);
  if (operand < 0 || (a != operand && b != operand)) return -1;
  return a == operand ? b : a;
}

// A node that reads `tensor` and, with it, `operand`; or -1.
int ConsumerWith(const Graph& graph, int tensor, int op, int operand) {
  if (tensor < 0) return -1;
  const int* starts = graph.first_consumer.data;
  for (int i = starts[tensor]; i < starts[tensor + 1]; ++i) {
    const int node = graph.consumers.data[i];
    if (OtherOperand(graph, node, op, tensor) == operand) return node;
  }
  return -1;
}

// x * (rsqrt * gamma) + (beta - mean * (rsqrt * gamma)), as tf_keras'
// LayerNormalization computes it, from x to y.
struct Core {
  int x;
  int y;
  int x_readers;  // among the nodes
};

bool FindCore(const Graph& graph, int rsqrt, LayerNormParams* norm, Core* core,
              NodeList* nodes) {
  const int add_epsilon =
      graph.Producer(graph.Input(rsqrt, 0), kTfLiteBuiltinAdd);
  bool reversed;
  const int variance = ScalarOperand(graph, add_epsilon, kTfLiteBuiltinAdd,
                                     &norm->norm.epsilon, &reversed);
  const int mean_square = graph.Producer(variance, kTfLiteBuiltinMean);
  const int square = MeanOf(graph, mean_square);
  const int difference =
      graph.Producer(square, kTfLiteBuiltinSquaredDifference);
  int mean = graph.Input(difference, 1);
  int mean_node = graph.Producer(mean, kTfLiteBuiltinMean);
  int x = MeanOf(graph, mean_node);
  if (x < 0 || x != graph.Input(difference, 0)) {
    mean = graph.Input(difference, 0);
    mean_node = graph.Producer(mean, kTfLiteBuiltinMean);
    x = MeanOf(graph, mean_node);
    if (x < 0 || x != graph.Input(difference, 1)) return false;
  }
  const int inverse = graph.Output(rsqrt, 0);
  const int times_gamma = graph.OnlyConsumer(inverse, kTfLiteBuiltinMul);
  norm->gamma = OtherOperand(graph, times_gamma, kTfLiteBuiltinMul, inverse);
  const int scale = graph.Output(times_gamma, 0);
  const int scaled_x = ConsumerWith(graph, scale, kTfLiteBuiltinMul, x);
  const int scaled_mean = ConsumerWith(graph, scale, kTfLiteBuiltinMul, mean);
  const int shift =
      graph.OnlyConsumer(graph.Output(scaled_mean, 0), kTfLiteBuiltinSub);
  if (!graph.IsPlain(shift, kTfLiteBuiltinSub) ||
      graph.Input(shift, 1) != graph.Output(scaled_mean, 0)) {
    return false;
  }
  norm->beta = graph.Input(shift, 0);
  const int sum = graph.OnlyConsumer(graph.Output(shift, 0), kTfLiteBuiltinAdd);
  if (scaled_x < 0 ||
      OtherOperand(graph, sum, kTfLiteBuiltinAdd, graph.Output(shift, 0)) !=
          graph.Output(scaled_x, 0)) {
    return false;
  }
  // Nobody else sees what is not computed any more.
  if (graph.OnlyConsumer(variance) != add_epsilon ||
      graph.OnlyConsumer(square) != mean_square ||
      graph.OnlyConsumer(graph.Input(rsqrt, 0)) != rsqrt ||
      graph.OnlyConsumer(graph.Output(scaled_x, 0)) != sum ||
      graph.NumConsumers(mean) != 2 || graph.is_output.data[mean] ||
      graph.NumConsumers(scale) != 2 || graph.is_output.data[scale]) {
    return false;
  }
  core->x = x;
  core->y = graph.Output(sum, 0);
  core->x_readers = 3;
  return nodes->Add(rsqrt) && nodes->Add(add_epsilon) &&
         nodes->Add(mean_square) && nodes->Add(difference) &&
         nodes->Add(mean_node) && nodes->Add(times_gamma) &&
         nodes->Add(scaled_x) && nodes->Add(scaled_mean) && nodes->Add(shift) &&
         nodes->Add(sum);
}

bool ValidChannels(const Graph& graph, const Core& core,
                   LayerNormParams* norm) {
  const int channels = graph.Dim(core.x, -1);
  norm->norm.channels = channels;
  return channels > 0 && channels <= 8192 &&
         graph.IsType(core.x, kTfLiteFloat32) &&
         graph.IsType(core.y, kTfLiteFloat32) &&
         graph.SameShape(core.x, core.y) &&
         graph.ConstantFloats(norm->gamma, channels) != nullptr &&
         graph.ConstantFloats(norm->beta, channels) != nullptr &&
         norm->norm.epsilon > 0;
}

// Follows `tensor`, which only `reader` reads, up to int8 rows through a
// DEQUANTIZE and, between, a product with a constant for each channel.
bool FindRows(const Graph& graph, int tensor, int reader, Step* step,
              NodeList* nodes) {
  LayerNormParams& norm = step->layer_norm;
  const int channels = norm.norm.channels;
  const int product = graph.Producer(tensor, kTfLiteBuiltinMul);
  if (graph.OnlyConsumer(tensor) != reader) return false;
  if (graph.IsPlain(product, kTfLiteBuiltinMul)) {
    const int last = graph.Input(product, 1);
    const bool second = graph.ConstantFloats(last, channels) != nullptr;
    norm.multipliers = second ? last : graph.Input(product, 0);
    tensor = graph.Input(product, second ? 0 : 1);
    if (graph.ConstantFloats(norm.multipliers, channels) == nullptr ||
        graph.OnlyConsumer(tensor) != product || !nodes->Add(product)) {
      return false;
    }
  }
  const int dequantize = graph.Producer(tensor, kTfLiteBuiltinDequantize);
  const int rows = graph.Input(dequantize, 0);
  if (graph.IsConstant(rows) || graph.Dim(rows, -1) != channels ||
      !graph.Quantization(rows, &norm.norm.x) || !nodes->Add(dequantize)) {
    return false;
  }
  step->inputs[1] = rows;
  return true;
}

// Takes the sum in front if only the layer norm reads it, and what makes one
// of its operands of int8 rows if only the sum reads that.
void TakeSum(const Graph& graph, const Core& core, Step* step,
             NodeList* nodes) {
  step->inputs[2] = core.x;
  const int add = graph.Producer(core.x, kTfLiteBuiltinAdd);
  const int a = graph.Input(add, 0), b = graph.Input(add, 1);
  if (!graph.IsPlain(add, kTfLiteBuiltinAdd) || a == b ||
      graph.NumConsumers(core.x) != core.x_readers ||
      graph.is_output.data[core.x] || !graph.IsType(a, kTfLiteFloat32) ||
      !graph.IsType(b, kTfLiteFloat32) || !graph.SameShape(a, core.x) ||
      !graph.SameShape(b, core.x) || graph.IsConstant(a) ||
      graph.IsConstant(b) || !nodes->Add(add)) {
    return;
  }
  const NodeList before = *nodes;
  const int operands[2] = {a, b};
  for (int i = 0; i < 2; ++i) {
    if (FindRows(graph, operands[i], add, step, nodes)) {
      step->inputs[0] = operands[1 - i];
      step->inputs[2] = -1;
      return;
    }
    *nodes = before;
    step->layer_norm.multipliers = -1;
  }
  step->inputs[0] = a;
  step->inputs[2] = b;
}

// Takes a QUANTIZE of the output, directly or through a RESHAPE.
void TakeQuantize(const Graph& graph, int tensor, LayerNormParams* norm,
                  Step* step, NodeList* nodes) {
  if (tensor < 0) return;
  const int* starts = graph.first_consumer.data;
  for (int i = starts[tensor]; i < starts[tensor + 1]; ++i) {
    const int node = graph.consumers.data[i];
    const int output = graph.Output(node, 0);
    if (graph.Is(node, kTfLiteBuiltinQuantize) &&
        graph.Quantization(output, &norm->norm.output) && nodes->Add(node)) {
      step->outputs[1] = output;
      return;
    }
    if (norm->shape < 0 && ReshapeShape(graph, node) >= 0) {
      norm->shape = ReshapeShape(graph, node);
      TakeQuantize(graph, output, norm, step, nodes);
      if (step->outputs[1] >= 0) return;
      norm->shape = -1;
    }
  }
}

}  // namespace

bool MatchLayerNorm(const Graph& graph, int rsqrt, Step* step,
                    NodeList* nodes) {
  if (!graph.Is(rsqrt, kTfLiteBuiltinRsqrt)) return false;
  LayerNormParams norm = {};
  norm.shape = norm.multipliers = -1;
  Core core;
  if (!FindCore(graph, rsqrt, &norm, &core, nodes) ||
      !ValidChannels(graph, core, &norm)) {
    return false;
  }
  NodeList before = *nodes;
  const bool only = graph.NumConsumers(core.x) == core.x_readers &&
                    !graph.is_output.data[core.x];
  LayerNormParams* kept;
  if (only && MatchEmbeddings(graph, core.x, norm.norm.channels, step, nodes)) {
    step->embeddings.norm = norm;
    kept = &step->embeddings.norm;
  } else {
    *nodes = before;
    *step = MakeStep(StepKind::kLayerNorm);
    step->layer_norm = norm;
    kept = &step->layer_norm;
    TakeSum(graph, core, step, nodes);
  }
  step->outputs[0] = core.y;
  TakeQuantize(graph, core.y, kept, step, nodes);
  return true;
}

}  // namespace tf_pof
