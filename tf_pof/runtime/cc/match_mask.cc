#include "match.h"

namespace tf_pof {
namespace {

// A STRIDED_SLICE that keeps everything.
bool IsWholeSlice(const Graph& graph, int node) {
  if (!graph.Is(node, kTfLiteBuiltinStridedSlice)) return false;
  const auto* options = graph.Options<TfLiteStridedSliceParams>(node);
  const int rank = graph.Rank(graph.Input(node, 0));
  const int32_t* strides = graph.ConstantInts(graph.Input(node, 3), rank);
  if (options == nullptr || strides == nullptr) return false;
  const int all = (1 << rank) - 1;
  for (int i = 0; i < rank; ++i) {
    if (strides[i] != 1) return false;
  }
  return (options->begin_mask & all) == all &&
         (options->end_mask & all) == all && options->ellipsis_mask == 0 &&
         options->new_axis_mask == 0 && options->shrink_axis_mask == 0 &&
         !options->offset;
}

// The operand of a node that changes each element by a constant, or -1.
int FindOperation(const Graph& graph, int node, MaskOperation* operation) {
  bool reversed;
  float value;
  int operand =
      ScalarOperand(graph, node, kTfLiteBuiltinAdd, &value, &reversed);
  if (operand >= 0) {
    *operation = {MaskOperation::kAdd, value};
    return operand;
  }
  operand = ScalarOperand(graph, node, kTfLiteBuiltinMul, &value, &reversed);
  if (operand >= 0) {
    *operation = {MaskOperation::kMultiply, value};
    return operand;
  }
  operand = ScalarOperand(graph, node, kTfLiteBuiltinSub, &value, &reversed);
  if (operand >= 0 && reversed) {
    *operation = {MaskOperation::kSubtractFrom, value};
  } else if (operand >= 0) {
    *operation = {MaskOperation::kAdd, -value};
  }
  return operand;
}

}  // namespace

bool MatchMask(const Graph& graph, int mask, Step* step, NodeList* nodes) {
  *step = MakeStep(StepKind::kMask);
  MaskParams& params = step->mask;
  params.shape = -1;
  step->outputs[0] = mask;
  int tensor = mask, reader = -1;
  constexpr int kMaxOperations = 4;
  MaskOperation found[kMaxOperations];
  for (;;) {
    if (tensor < 0 || (reader >= 0 && graph.OnlyConsumer(tensor) != reader)) {
      return false;
    }
    const int node = graph.producers.data[tensor];
    if (!nodes->Add(node)) return false;
    reader = node;
    tensor = graph.Input(node, 0);
    if (graph.Is(node, kTfLiteBuiltinCast)) break;
    MaskOperation operation;
    const int operand = FindOperation(graph, node, &operation);
    if (operand >= 0) {
      if (params.num_operations == kMaxOperations) return false;
      found[params.num_operations++] = operation;
      tensor = operand;
    } else if (ReshapeShape(graph, node) >= 0) {
      // Only the shape nearest to the output matters.
      if (params.shape < 0) params.shape = ReshapeShape(graph, node);
    } else if (!IsWholeSlice(graph, node)) {
      return false;
    }
  }
  for (int i = 0; i < params.num_operations; ++i) {
    params.operations[i] = found[params.num_operations - 1 - i];
  }
  step->inputs[0] = tensor;
  return graph.IsType(tensor, kTfLiteInt32) && !graph.IsConstant(tensor) &&
         graph.IsType(graph.Output(reader, 0), kTfLiteFloat32);
}

}  // namespace tf_pof
