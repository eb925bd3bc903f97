#include <stdio.h>

#include "plan.h"

namespace tf_pof {
namespace {

TfLiteStatus Fail(TfLiteContext* context, const char* sentence) {
  context->ReportError(context, "tf_pof: %s", sentence);
  return kTfLiteError;
}

const char* Sentence(TfPofStatus status) {
  switch (status) {
    case kTfPofOutOfMemory:
      return "memory ran out.";
    case kTfPofNoKernel:
      return "no kernel runs on this processor.";
    default:
      return "the model has numbers that make no sense.";
  }
}

bool PackLayers(TfLiteContext* context, const DelegateOptions& options,
                TfPofThreadPool* pool, Plan* plan) {
  FileMapping mapping = {};
  for (size_t i = 0; i < plan->steps.size; ++i) {
    if (plan->steps.data[i].kind != StepKind::kLinear ||
        plan->layers.data[i] != nullptr) {
      continue;
    }
    const LinearParams& linear = plan->steps.data[i].linear;
    const LayerSource source = SourceOf(context, linear, options);
    const char* problem = nullptr;
    const TfPofStatus status =
        AcquireLayer(source, pool, &plan->layers.data[i], &problem);
    const TfLiteTensor& weights = context->tensors[linear.weights];
    if (status != kTfPofOk) {
      context->ReportError(context, "tf_pof: weights %s: %s",
                           weights.name == nullptr ? "" : weights.name,
                           problem != nullptr ? problem : Sentence(status));
      return false;
    }
    if (source.packed != nullptr) {
      DropFilePages(source.packed, source.packed_bytes, &mapping);
    } else {
      DropFilePages(weights.data.data, weights.bytes, &mapping);
    }
    if (options.verbose) {
      const TfPofFullyConnected* layer = Get(plan->layers.data[i]);
      fprintf(stderr,
              "tf_pof: %s: %d x %d, %.1f %% zeros: kernel %s, %zu bytes; the "
              "cheapest of isa %s for %d tokens\n",
              weights.name == nullptr ? "" : weights.name, linear.num_outputs,
              linear.num_inputs, 100 * linear.zeros(),
              TfPofFullyConnectedKernel(layer), TfPofFullyConnectedBytes(layer),
              options.isa, options.tokens);
    }
  }
  return true;
}

bool Resize(TfLiteContext* context, int tensor, int rank, const int* dims) {
  // ResizeTensor frees it with free().
  auto* shape = static_cast<TfLiteIntArray*>(
      malloc(sizeof(TfLiteIntArray) + rank * sizeof(int)));
  if (shape == nullptr) return false;
  shape->size = rank;
  memcpy(shape->data, dims, rank * sizeof(int));
  return context->ResizeTensor(context, &context->tensors[tensor], shape) ==
         kTfLiteOk;
}

// Gives outputs the shapes that were found.
bool ResizeOutputs(TfLiteContext* context, const Plan& plan) {
  for (size_t i = 0; i < plan.values.size; ++i) {
    const Value& value = plan.values.data[i];
    if (value.is_output &&
        !Resize(context, value.tensor, value.rank, value.dims)) {
      return false;
    }
  }
  const int empty = 0;
  for (size_t i = 0; i < plan.unread_weights.size; ++i) {
    if (!Resize(context, plan.unread_weights.data[i], 1, &empty)) return false;
  }
  return true;
}

// Runs the steps of one call.
struct Runner {
  const Plan* plan;
  const TfLiteContext* context;
  TfPofThreadPool* pool;
  uint8_t* workspace;

  template <typename T>
  T* Data(int value) const {
    return static_cast<T*>(plan->Data(context, value));
  }
  const Value& At(int value) const { return plan->values.data[value]; }
  const float* Floats(int tensor) const {
    return context->tensors[tensor].data.f;
  }

  TfPofStatus Linear(const Step& step, const CachedLayer* layer) const {
    const Value& input = At(step.inputs[0]);
    const Value& output = At(step.outputs[0]);
    const int tokens =
        static_cast<int>(input.elements / step.linear.num_inputs);
    return TfPofFullyConnectedRun(
        Get(layer), tokens, Data<int8_t>(step.inputs[0]), input.layout,
        Data<void>(step.outputs[0]), output.layout, workspace, pool);
  }

  TfPofStatus Attention(const Step& step) const {
    const AttentionParams& p = step.attention;
    const int64_t example =
        int64_t{p.sequence} * p.heads.num_heads * p.heads.head_size;
    const int batch = static_cast<int>(At(step.inputs[0]).elements / example);
    return TfPofAttentionRun(
        &p.heads, batch, p.sequence, Data<int8_t>(step.inputs[0]),
        Data<int8_t>(step.inputs[1]), Data<int8_t>(step.inputs[2]),
        Data<float>(step.inputs[3]), Data<int8_t>(step.outputs[0]), workspace,
        pool);
  }

  TfPofLayerNormParams Norm(const LayerNormParams& params) const {
    TfPofLayerNormParams norm = params.norm;
    norm.gamma = Floats(params.gamma);
    norm.beta = Floats(params.beta);
    return norm;
  }

  TfPofStatus LayerNorm(const Step& step) const {
    const TfPofLayerNormParams norm = Norm(step.layer_norm);
    int64_t elements = 0;
    for (const int value : step.inputs) {
      if (value >= 0) elements = At(value).elements;
    }
    return TfPofLayerNormRun(
        &norm, static_cast<int>(elements / norm.channels),
        Data<float>(step.inputs[0]), Data<int8_t>(step.inputs[1]),
        Data<float>(step.inputs[2]), Data<float>(step.outputs[0]),
        Data<int8_t>(step.outputs[1]), pool);
  }

  TfPofStatus Embeddings(const Step& step) const {
    const EmbeddingsParams& p = step.embeddings;
    const TfPofLayerNormParams norm = Norm(p.norm);
    TfPofTable tables[4];
    const int32_t* ids[4];
    const Value* some = nullptr;
    for (int i = 0; i < p.num_tables; ++i) {
      tables[i] = p.tables[i];
      tables[i].table = context->tensors[p.tensors[i]].data.int8 +
                        static_cast<size_t>(p.first_row[i]) * norm.channels;
      ids[i] = Data<int32_t>(step.inputs[i]);
      if (step.inputs[i] >= 0) some = &At(step.inputs[i]);
    }
    return TfPofEmbeddingsRun(tables, ids, p.num_tables,
                              static_cast<int>(some->elements), some->dims[1],
                              &norm, Data<float>(step.outputs[0]),
                              Data<int8_t>(step.outputs[1]), pool);
  }

  TfPofStatus Mask(const Step& step) const {
    const auto* input = Data<int32_t>(step.inputs[0]);
    auto* output = Data<float>(step.outputs[0]);
    for (int64_t i = 0; i < At(step.inputs[0]).elements; ++i) {
      float x = static_cast<float>(input[i]);
      for (int j = 0; j < step.mask.num_operations; ++j) {
        const MaskOperation& operation = step.mask.operations[j];
        switch (operation.kind) {
          case MaskOperation::kAdd:
            x += operation.value;
            break;
          case MaskOperation::kSubtractFrom:
            x = operation.value - x;
            break;
          case MaskOperation::kMultiply:
            x *= operation.value;
            break;
        }
      }
      output[i] = x;
    }
    return kTfPofOk;
  }

  TfPofStatus View(const Step& step) const {
    const Value& output = At(step.outputs[0]);
    // An output that is a view of another input or output is a copy.
    if (output.is_output && output.storage != step.outputs[0]) {
      memcpy(context->tensors[output.tensor].data.data,
             Data<void>(step.inputs[0]), output.elements * output.type_size);
    }
    return kTfPofOk;
  }

  TfPofStatus Run(const Step& step, const CachedLayer* layer) const {
    void* first = Data<void>(step.outputs[0]);
    if (first == nullptr && Data<void>(step.outputs[1]) == nullptr) {
      return kTfPofOk;  // nobody reads it
    }
    switch (step.kind) {
      case StepKind::kLinear:
        return Linear(step, layer);
      case StepKind::kAttention:
        return Attention(step);
      case StepKind::kLayerNorm:
        return LayerNorm(step);
      case StepKind::kEmbeddings:
        return Embeddings(step);
      case StepKind::kMask:
        return Mask(step);
      case StepKind::kView:
        return View(step);
      case StepKind::kQuantize:
        TfPofQuantize(Data<float>(step.inputs[0]), At(step.inputs[0]).elements,
                      step.quantization, static_cast<int8_t*>(first));
        return kTfPofOk;
      case StepKind::kDequantize:
        TfPofDequantize(Data<int8_t>(step.inputs[0]),
                        At(step.inputs[0]).elements, step.quantization,
                        static_cast<float*>(first));
        return kTfPofOk;
      case StepKind::kUnpacked:
        return kTfPofOk;
    }
    return kTfPofInvalidArgument;
  }
};

// Whether inputs and outputs have the memory that was planned with.
bool HasMemory(const TfLiteContext& context, const Plan& plan, bool* empty) {
  for (size_t i = 0; i < plan.values.size; ++i) {
    const Value& value = plan.values.data[i];
    if (!value.is_input && !value.is_output) continue;
    const TfLiteTensor& tensor = context.tensors[value.tensor];
    if (value.elements == 0) {
      *empty = true;
    } else if (tensor.data.data == nullptr ||
               NumElements(tensor.dims) != value.elements ||
               tensor.bytes <
                   static_cast<size_t>(value.elements) * value.type_size) {
      return false;
    }
  }
  return true;
}

}  // namespace

LayerSource SourceOf(const TfLiteContext* context, const LinearParams& linear,
                     const DelegateOptions& options) {
  const TfLiteTensor& weights = context->tensors[linear.weights];
  const auto& scales = *static_cast<const TfLiteAffineQuantizationParams*>(
                            weights.quantization.params)
                            ->scale;
  LayerSource source = {};
  TfPofFullyConnectedParams& p = source.params;
  p.num_inputs = linear.num_inputs;
  p.num_outputs = linear.num_outputs;
  if (linear.packed >= 0) {
    source.packed = context->tensors[linear.packed].data.data;
    source.packed_bytes = context->tensors[linear.packed].bytes;
  } else {
    p.weights = weights.data.int8;
  }
  p.weight_scales = scales.data;
  p.num_weight_scales = scales.size;
  if (linear.bias >= 0) p.bias = context->tensors[linear.bias].data.i32;
  p.input_scale = linear.input.scale;
  p.input_zero_point = linear.input.zero_point;
  p.output_scale = linear.output.scale;
  p.output_zero_point = linear.output.zero_point;
  p.output_type = kTfPofInt8;
  p.table = linear.has_table ? linear.table : nullptr;
  p.isa = options.isa;
  source.tokens = options.tokens;
  return source;
}

TfLiteStatus Plan::Prepare(TfLiteContext* context,
                           const DelegateOptions& options,
                           TfPofThreadPool* pool) {
  if (!InferShapes(context) || !ResizeOutputs(context, *this)) {
    return kTfLiteError;
  }
  if (!packed && !PackLayers(context, options, pool, this)) {
    return kTfLiteError;
  }
  packed = true;
  if (!PlanMemory(TfPofThreadPoolThreads(pool))) {
    return Fail(context, Sentence(kTfPofOutOfMemory));
  }
  return kTfLiteOk;
}

TfLiteStatus Plan::Invoke(TfLiteContext* context, TfPofThreadPool* pool) const {
  bool empty = false;
  if (!packed || !HasMemory(*context, *this, &empty)) {
    return Fail(context, "inputs have changed since they were prepared.");
  }
  if (empty) return kTfLiteOk;
  const Runner runner = {this, context, pool, Arena() + workspace_offset};
  for (size_t i = 0; i < steps.size; ++i) {
    const Step& step = steps.data[i];
    const TfPofStatus status = runner.Run(step, layers.data[i]);
    if (status == kTfPofOk) continue;
    if (status == kTfPofInvalidArgument && step.kind == StepKind::kEmbeddings) {
      return Fail(context, "a token, segment or position id is out of range.");
    }
    return Fail(context, Sentence(status));
  }
  return kTfLiteOk;
}

}  // namespace tf_pof
