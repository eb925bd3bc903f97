#include "kernel.h"
#include "plan.h"

namespace tf_pof {
namespace {

// With those that a last panel has besides, tokens are still an int32.
constexpr int64_t kMaxElements = (int64_t{1} << 31) - kPanelTokens;

void Report(TfLiteContext* context, const char* sentence, int tensor) {
  const char* name = context->tensors[tensor].name;
  context->ReportError(context, "tf_pof: tensor %s %s.",
                       name == nullptr ? "without a name" : name, sentence);
}

bool SetDims(const int* dims, int rank, Value* value) {
  value->rank = rank;
  value->elements = 1;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] < 0) return false;
    value->dims[i] = dims[i];
    value->elements *= dims[i];
    if (value->elements >= kMaxElements) return false;
  }
  return true;
}

// What a RESHAPE by a constant makes of so many elements.
bool Reshape(const TfLiteTensor& shape, int64_t elements, Value* value) {
  int dims[kMaxRank];
  const int rank = shape.dims->data[0];
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < rank; ++i) {
    dims[i] = shape.data.i32[i];
    if (dims[i] == -1 && unknown < 0) {
      unknown = i;
    } else {
      if (dims[i] < 0) return false;
      known *= dims[i];
    }
    if (known > kMaxElements) return false;
  }
  if (unknown >= 0) {
    if (known == 0 || elements % known != 0) return false;
    dims[unknown] = static_cast<int>(elements / known);
  }
  return SetDims(dims, rank, value) && value->elements == elements;
}

struct Inference {
  TfLiteContext* context;
  Plan* plan;

  Value* At(int value) const {
    return value < 0 ? nullptr : &plan->values.data[value];
  }

  bool Same(const Value& input, Value* output) const {
    return output == nullptr || SetDims(input.dims, input.rank, output);
  }

  // As `input`, unless a tensor has another shape.
  bool Shaped(const Value& input, int shape, Value* output) const {
    if (shape < 0 || output == nullptr) return Same(input, output);
    return Reshape(context->tensors[shape], input.elements, output);
  }

  bool Linear(const Step& step) const {
    const Value& input = *At(step.inputs[0]);
    const int inputs = step.linear.num_inputs;
    int dims[kMaxRank];
    int rank = 2;
    if (input.elements % inputs != 0) return false;
    dims[0] = static_cast<int>(input.elements / inputs);
    if (step.linear.keep_dims) {
      rank = input.rank;
      if (rank < 1 || input.dims[rank - 1] != inputs) return false;
      memcpy(dims, input.dims, rank * sizeof(int));
    }
    dims[rank - 1] = step.linear.num_outputs;
    return SetDims(dims, rank, At(step.outputs[0]));
  }

  bool Attention(const Step& step) const {
    const AttentionParams& p = step.attention;
    const int64_t elements = At(step.inputs[0])->elements;
    const int64_t example =
        int64_t{p.sequence} * p.heads.num_heads * p.heads.head_size;
    const Value* mask = At(step.inputs[3]);
    if (At(step.inputs[1])->elements != elements ||
        At(step.inputs[2])->elements != elements || elements % example != 0 ||
        (p.batch >= 0 && elements / example != p.batch) ||
        (mask != nullptr && mask->elements != p.sequence &&
         mask->elements != elements / example * p.sequence)) {
      return false;
    }
    return Shaped(*At(step.inputs[0]), p.shape, At(step.outputs[0]));
  }

  bool LayerNorm(const Step& step) const {
    const LayerNormParams& p = step.layer_norm;
    const Value* first = nullptr;
    for (const int input : step.inputs) {
      const Value* value = At(input);
      if (value == nullptr) continue;
      if (first != nullptr && first->elements != value->elements) return false;
      first = value;
    }
    return first != nullptr && first->elements % p.norm.channels == 0 &&
           Same(*first, At(step.outputs[0])) &&
           Shaped(*first, p.shape, At(step.outputs[1]));
  }

  bool Embeddings(const Step& step) const {
    const EmbeddingsParams& p = step.embeddings;
    const Value* ids = nullptr;
    for (const int input : step.inputs) {
      const Value* value = At(input);
      if (value == nullptr) continue;
      if (value->rank != 2 ||
          (ids != nullptr && ids->elements != value->elements) ||
          (p.sequence > 0 && value->dims[1] != p.sequence)) {
        return false;
      }
      ids = value;
    }
    const int dims[3] = {ids->dims[0], ids->dims[1], p.norm.norm.channels};
    Value rows = {};
    return SetDims(dims, 3, &rows) && Same(rows, At(step.outputs[0])) &&
           Shaped(rows, p.norm.shape, At(step.outputs[1]));
  }

  bool Token(const Step& step) const {
    const Value& input = *At(step.inputs[0]);
    const TokenParams& p = step.token;
    if (input.rank != 3 || input.dims[1] != p.sequence ||
        input.dims[2] != p.channels) {
      return false;
    }
    const int dims[2] = {input.dims[0], p.channels};
    return SetDims(dims, 2, At(step.outputs[0]));
  }

  bool Infer(const Step& step) const {
    const Value* input = At(step.inputs[0]);
    Value* output = At(step.outputs[0]);
    switch (step.kind) {
      case StepKind::kLinear:
        return Linear(step);
      case StepKind::kAttention:
        return Attention(step);
      case StepKind::kLayerNorm:
        return LayerNorm(step);
      case StepKind::kEmbeddings:
        return Embeddings(step);
      case StepKind::kMask:
        return Shaped(*input, step.mask.shape, output);
      case StepKind::kView:
        return Shaped(*input, step.shape, output);
      case StepKind::kToken:
        return Token(step);
      case StepKind::kQuantize:
      case StepKind::kDequantize:
        return Same(*input, output);
      case StepKind::kUnpacked:
        return true;
    }
    return false;
  }
};

}  // namespace

bool Plan::InferShapes(TfLiteContext* context) {
  for (size_t i = 0; i < values.size; ++i) {
    Value& value = values.data[i];
    if (!value.is_input) continue;
    const TfLiteIntArray* dims = context->tensors[value.tensor].dims;
    if (dims == nullptr || dims->size > kMaxRank ||
        !SetDims(dims->data, dims->size, &value)) {
      Report(context, "has no valid shape", value.tensor);
      return false;
    }
  }
  const Inference inference = {context, this};
  for (size_t i = 0; i < steps.size; ++i) {
    const Step& step = steps.data[i];
    if (inference.Infer(step)) continue;
    const int output = step.outputs[0] < 0 ? step.outputs[1] : step.outputs[0];
    Report(context, "cannot be computed from inputs of these shapes",
           values.data[output].tensor);
    return false;
  }
  return true;
}

}  // namespace tf_pof
