#include "graph.h"

#include <math.h>

namespace tf_pof {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 31;
// A model with more is no model, and counts must not overflow.
constexpr size_t kMaxTensors = 1 << 24;

// In the place of a producer.
constexpr int kNobody = -1;
constexpr int kSeveral = -2;

// 0 for types whose tensors are not checked.
size_t TypeSize(int type) {
  switch (type) {
    case kTfLiteInt8:
    case kTfLiteUInt8:
    case kTfLiteBool:
      return 1;
    case kTfLiteInt16:
    case kTfLiteFloat16:
      return 2;
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return 4;
    case kTfLiteInt64:
    case kTfLiteFloat64:
      return 8;
    default:
      return 0;
  }
}

// Whether tensors look as the header says: sizes of constants follow from
// their shapes, if all fields are where they should be. A few may not in a
// corrupt model, which is no matter of the runtime.
bool PlausibleTensors(const TfLiteContext& context) {
  int fitting = 0, others = 0;
  for (size_t i = 0; i < context.tensors_size; ++i) {
    const TfLiteTensor& tensor = context.tensors[i];
    if (tensor.type < 0 || tensor.type > 64 || tensor.allocation_type < 0 ||
        tensor.allocation_type > 32 || tensor.quantization.type < 0 ||
        tensor.quantization.type > 16) {
      return false;
    }
    if (tensor.dims == nullptr) continue;
    if (tensor.dims->size < 0 || tensor.dims->size > 64) return false;
    const size_t size = TypeSize(tensor.type);
    if (tensor.allocation_type != kTfLiteMmapRo || size == 0 ||
        tensor.sparsity != nullptr) {
      continue;
    }
    const int64_t count = NumElements(tensor.dims);
    const bool fits = count >= 0 && tensor.bytes == count * size;
    ++(fits ? fitting : others);
  }
  return fitting >= others;
}

bool ValidIndices(const TfLiteIntArray* indices, size_t num_tensors) {
  if (indices == nullptr || indices->size < 0) return false;
  for (int i = 0; i < indices->size; ++i) {
    if (indices->data[i] < -1 ||
        indices->data[i] >= static_cast<int>(num_tensors)) {
      return false;
    }
  }
  return true;
}

bool ReadNodes(Graph* graph) {
  TfLiteContext* context = graph->context;
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk ||
      plan == nullptr || plan->size < 0 || !graph->nodes.Resize(plan->size)) {
    return false;
  }
  for (int i = 0; i < plan->size; ++i) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    const int index = plan->data[i];
    if (context->GetNodeAndRegistration(context, index, &node, &registration) !=
            kTfLiteOk ||
        node == nullptr || registration == nullptr ||
        !ValidIndices(node->inputs, context->tensors_size) ||
        !ValidIndices(node->outputs, context->tensors_size)) {
      return false;
    }
    graph->nodes.data[i] = {index, registration->builtin_code,
                            registration->custom_name, node};
  }
  return true;
}

bool LinkNodes(Graph* graph) {
  const size_t tensors = graph->context->tensors_size;
  if (!graph->producers.Resize(tensors) || !graph->is_output.Resize(tensors) ||
      !graph->first_consumer.Resize(tensors + 1)) {
    return false;
  }
  for (size_t t = 0; t < tensors; ++t) graph->producers.data[t] = kNobody;
  int* starts = graph->first_consumer.data;
  int reads = 0;
  for (size_t i = 0; i < graph->nodes.size; ++i) {
    const TfLiteNode& node = *graph->nodes.data[i].node;
    for (int j = 0; j < node.outputs->size; ++j) {
      const int t = node.outputs->data[j];
      if (t < 0) continue;
      // A tensor that two nodes write is nobody's.
      graph->is_output.data[t] = graph->producers.data[t] != kNobody;
      graph->producers.data[t] =
          graph->is_output.data[t] ? kSeveral : static_cast<int>(i);
    }
    for (int j = 0; j < node.inputs->size; ++j) {
      if (node.inputs->data[j] < 0) continue;
      ++starts[node.inputs->data[j]];
      ++reads;
    }
  }
  if (!graph->consumers.Resize(reads)) return false;
  for (size_t t = 0; t < tensors; ++t) starts[t + 1] += starts[t];
  // Filled from the end, so that ends become starts.
  for (size_t i = graph->nodes.size; i-- > 0;) {
    const TfLiteIntArray& inputs = *graph->nodes.data[i].node->inputs;
    for (int j = inputs.size; j-- > 0;) {
      if (inputs.data[j] < 0) continue;
      graph->consumers.data[--starts[inputs.data[j]]] = static_cast<int>(i);
    }
  }
  starts[tensors] = reads;
  return true;
}

// If all nodes were delegated, their outputs would be those of the subgraph:
// the context says it in no other way.
bool FindOutputs(Graph* graph) {
  TfLiteContext* context = graph->context;
  Buffer<int> nodes = {};
  bool found = nodes.Resize(graph->nodes.size + 1);
  if (found) {
    nodes.data[0] = static_cast<int>(graph->nodes.size);
    for (size_t i = 0; i < graph->nodes.size; ++i) {
      nodes.data[i + 1] = graph->nodes.data[i].index;
    }
    TfLiteDelegateParams* partitions = nullptr;
    int count = 0;
    found = context->PreviewDelegatePartitioning(
                context, reinterpret_cast<TfLiteIntArray*>(nodes.data),
                &partitions, &count) == kTfLiteOk;
    for (int i = 0; found && i < count; ++i) {
      const TfLiteIntArray* outputs = partitions[i].output_tensors;
      found = ValidIndices(outputs, context->tensors_size);
      for (int j = 0; found && j < outputs->size; ++j) {
        if (outputs->data[j] >= 0) {
          graph->is_output.data[outputs->data[j]] = true;
        }
      }
    }
  }
  nodes.Free();
  return found;
}

template <typename T>
const T* Constant(const Graph& graph, int tensor, int type, int64_t count) {
  if (!graph.IsConstant(tensor) || !graph.IsType(tensor, type)) return nullptr;
  const TfLiteTensor& t = *graph.tensor(tensor);
  if (NumElements(t.dims) != count || t.bytes != count * sizeof(T)) {
    return nullptr;
  }
  return static_cast<const T*>(t.data.data);
}

}  // namespace

int64_t NumElements(const TfLiteIntArray* dims) {
  if (dims == nullptr || dims->size < 0 || dims->size > 64) return -1;
  int64_t count = 1;
  for (int i = 0; i < dims->size; ++i) {
    if (dims->data[i] < 0) return -1;
    count *= dims->data[i];
    if (count > kMaxElements) return -1;
  }
  return count;
}

bool Graph::Open(TfLiteContext* tflite_context) {
  context = tflite_context;
  if (context->tensors_size > kMaxTensors || context->tensors == nullptr ||
      context->GetExecutionPlan == nullptr ||
      context->PreviewDelegatePartitioning == nullptr ||
      !PlausibleTensors(*context)) {
    context->ReportError(context,
                         "tf_pof: this runtime has another layout of tensors "
                         "than the delegate was made for; use ai-edge-litert "
                         "2.1 to 2.3 or TensorFlow 2.20 to 2.21.");
    return false;
  }
  if (!ReadNodes(this) || !LinkNodes(this) || !FindOutputs(this)) {
    context->ReportError(context,
                         "tf_pof: the model's graph is not valid, or memory "
                         "ran out while reading it.");
    return false;
  }
  return true;
}

void Graph::Free() {
  nodes.Free();
  producers.Free();
  first_consumer.Free();
  consumers.Free();
  is_output.Free();
}

int Graph::NumInputs(int node) const {
  return node < 0 ? 0 : nodes.data[node].node->inputs->size;
}

int Graph::Input(int node, int i) const {
  return i < NumInputs(node) ? nodes.data[node].node->inputs->data[i] : -1;
}

int Graph::Output(int node, int i) const {
  if (node < 0) return -1;
  const TfLiteIntArray& outputs = *nodes.data[node].node->outputs;
  return i < outputs.size ? outputs.data[i] : -1;
}

int Graph::Producer(int tensor, int op) const {
  if (tensor < 0) return -1;
  const int node = producers.data[tensor];
  return Is(node, op) ? node : -1;
}

int Graph::NumConsumers(int tensor) const {
  if (tensor < 0) return 0;
  return first_consumer.data[tensor + 1] - first_consumer.data[tensor];
}

int Graph::OnlyConsumer(int tensor) const {
  if (NumConsumers(tensor) != 1 || is_output.data[tensor]) return -1;
  return consumers.data[first_consumer.data[tensor]];
}

int Graph::OnlyConsumer(int tensor, int op) const {
  const int node = OnlyConsumer(tensor);
  return Is(node, op) ? node : -1;
}

bool Graph::IsType(int t, int type) const {
  return t >= 0 && tensor(t)->type == type && !tensor(t)->is_variable &&
         tensor(t)->sparsity == nullptr;
}

int Graph::Rank(int t) const {
  if (t < 0 || tensor(t)->dims == nullptr) return -1;
  const int rank = tensor(t)->dims->size;
  return rank <= kMaxRank ? rank : -1;
}

int Graph::Dim(int t, int i) const {
  const int rank = Rank(t);
  if (i < 0) i += rank;
  return i < 0 || i >= rank ? -1 : tensor(t)->dims->data[i];
}

bool Graph::SameShape(int a, int b) const {
  const int rank = Rank(a);
  if (rank < 0 || Rank(b) != rank) return false;
  const TfLiteIntArray* x = tensor(a)->dims_signature;
  const TfLiteIntArray* y = tensor(b)->dims_signature;
  for (int i = 0; i < rank; ++i) {
    if (Dim(a, i) != Dim(b, i)) return false;
    const int in_x = x != nullptr && i < x->size ? x->data[i] : Dim(a, i);
    const int in_y = y != nullptr && i < y->size ? y->data[i] : Dim(b, i);
    if (in_x != in_y) return false;
  }
  return true;
}

bool Graph::IsConstant(int t) const {
  return t >= 0 && producers.data[t] == kNobody &&
         tensor(t)->allocation_type == kTfLiteMmapRo &&
         tensor(t)->data.data != nullptr && tensor(t)->sparsity == nullptr;
}

const float* Graph::ConstantFloats(int t, int64_t count) const {
  return Constant<float>(*this, t, kTfLiteFloat32, count);
}

const int32_t* Graph::ConstantInts(int t, int64_t count) const {
  return Constant<int32_t>(*this, t, kTfLiteInt32, count);
}

const int8_t* Graph::ConstantInt8(int t, int64_t count) const {
  return Constant<int8_t>(*this, t, kTfLiteInt8, count);
}

bool Graph::ConstantScalar(int t, float* value) const {
  const float* found = ConstantFloats(t, 1);
  if (found == nullptr || !isfinite(*found)) return false;
  *value = *found;
  return true;
}

bool Graph::Quantization(int t, TfPofQuantization* quantization) const {
  if (!IsType(t, kTfLiteInt8)) return false;
  const TfLiteQuantization& found = tensor(t)->quantization;
  if (found.type != kTfLiteAffineQuantization || found.params == nullptr) {
    return false;
  }
  const auto& params =
      *static_cast<const TfLiteAffineQuantizationParams*>(found.params);
  if (params.scale == nullptr || params.scale->size != 1 ||
      params.zero_point == nullptr || params.zero_point->size != 1) {
    return false;
  }
  *quantization = {params.scale->data[0], params.zero_point->data[0]};
  return isfinite(quantization->scale) && quantization->scale > 0 &&
         quantization->zero_point >= -128 && quantization->zero_point <= 127;
}

bool Graph::IsPlain(int node, int op) const {
  if (!Is(node, op)) return false;
  const auto* options = Options<TfLiteArithmeticParams>(node);
  return options != nullptr && options->activation == kTfLiteActNone;
}

}  // namespace tf_pof
