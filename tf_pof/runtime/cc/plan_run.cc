#include "plan.h"
#include "run_layers.h"
#include "ticks.h"

namespace tf_pof {
namespace {

TfLiteStatus Fail(TfLiteContext* context, const char* sentence) {
  context->ReportError(context, "tf_pof: %s", sentence);
  return kTfLiteError;
}

// Runs the steps of one call.
struct Runner {
  const Plan* plan;
  const TfLiteContext* context;
  TfPofThreadPool* pool;
  uint8_t* workspace;  // aligned to a cache line
  StepTime* times;     // [steps] or null

  template <typename T>
  T* Data(int value) const {
    return static_cast<T*>(plan->Data(context, value));
  }
  const Value& At(int value) const { return plan->values.data[value]; }
  // With those that panels have besides.
  int64_t Elements(int value) const {
    const Value& storage = At(At(value).storage);
    if (storage.layout == kTfPofRows) return At(value).elements;
    return TfPofPanelBytes(
        static_cast<int32_t>(storage.elements / storage.channels),
        storage.channels);
  }
  const float* Floats(int tensor) const {
    return context->tensors[tensor].data.f;
  }

  StepTime* Time(const Step& step) const {
    return times == nullptr ? nullptr : times + (&step - plan->steps.data);
  }

  TfPofStatus Linear(const Step& step) const {
    const size_t first = &step - plan->steps.data;
    const int count = plan->together.data[first];
    if (count == 0) return kTfPofOk;  // has run already
    const Value& input = At(step.inputs[0]);
    const int tokens =
        static_cast<int>(input.elements / step.linear.num_inputs);
    const TfPofFullyConnected* layers[kMaxTogether];
    void* outputs[kMaxTogether];
    for (int i = 0; i < count; ++i) {
      layers[i] = Get(plan->layers.data[first + i]);
      outputs[i] = Data<void>(plan->steps.data[first + i].outputs[0]);
    }
    return RunLayers(layers, count, tokens, Data<int8_t>(step.inputs[0]),
                     plan->LayoutOf(step.inputs[0]), outputs,
                     plan->LayoutOf(step.outputs[0]), workspace,
                     plan->thread_bytes, pool);
  }

  TfPofStatus Attention(const Step& step) const {
    const AttentionParams& p = step.attention;
    const int64_t example =
        int64_t{p.sequence} * p.heads.num_heads * p.heads.head_size;
    const int batch = static_cast<int>(At(step.inputs[0]).elements / example);
    const int mask = step.inputs[3];
    const bool one_mask = mask >= 0 && At(mask).elements == p.sequence;
    StepTime* time = Time(step);
    return RunAttention(
        *plan->kernel, &p.heads, batch, p.sequence,
        Data<int8_t>(step.inputs[0]), Data<int8_t>(step.inputs[1]),
        Data<int8_t>(step.inputs[2]), Data<float>(mask),
        Data<int8_t>(step.outputs[0]), workspace, plan->thread_bytes, pool,
        time == nullptr ? nullptr : &time->ticks,
        plan->LayoutOf(step.inputs[0]), one_mask);
  }

  TfPofLayerNormParams Norm(const LayerNormParams& params) const {
    TfPofLayerNormParams norm = params.norm;
    norm.gamma = Floats(params.gamma);
    norm.beta = Floats(params.beta);
    if (params.multipliers >= 0)
      norm.x_multipliers = Floats(params.multipliers);
    return norm;
  }

  TfPofStatus LayerNorm(const Step& step) const {
    const TfPofLayerNormParams norm = Norm(step.layer_norm);
    int64_t elements = 0;
    for (const int value : step.inputs) {
      if (value >= 0) elements = At(value).elements;
    }
    NormTask task = {};
    task.params = &norm;
    task.residual = Data<float>(step.inputs[0]);
    task.x = Data<int8_t>(step.inputs[1]);
    task.float_x = Data<float>(step.inputs[2]);
    task.output = Data<float>(step.outputs[0]);
    task.quantized = Data<int8_t>(step.outputs[1]);
    task.layouts = plan->NormLayoutsOf(step);
    return RunNorm(*plan->kernel, task,
                   static_cast<int>(elements / norm.channels), workspace,
                   plan->thread_bytes, pool);
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
    NormTask task = {};
    task.params = &norm;
    task.output = Data<float>(step.outputs[0]);
    task.quantized = Data<int8_t>(step.outputs[1]);
    task.tables = tables;
    task.ids = ids;
    task.num_tables = p.num_tables;
    task.sequence = some->dims[1];
    task.layouts = plan->NormLayoutsOf(step);
    return RunNorm(*plan->kernel, task, static_cast<int>(some->elements),
                   workspace, plan->thread_bytes, pool);
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

  TfPofStatus Token(const Step& step) const {
    const Value& input = At(step.inputs[0]);
    const TokenParams& p = step.token;
    if (plan->LayoutOf(step.inputs[0]) == kTfPofPanels) return PanelToken(step);
    const size_t row = static_cast<size_t>(p.channels) * input.type_size;
    const auto* from = Data<uint8_t>(step.inputs[0]) + p.token * row;
    auto* to = Data<uint8_t>(step.outputs[0]);
    for (int i = 0; i < input.dims[0]; ++i) {
      memcpy(to + i * row, from + i * p.sequence * row, row);
    }
    return kTfPofOk;
  }

  TfPofStatus PanelToken(const Step& step) const {
    const Value& input = At(step.inputs[0]);
    const TokenParams& p = step.token;
    for (int i = 0; i < input.dims[0]; ++i) {
      const int token = i * p.sequence + p.token;
      const size_t from = static_cast<size_t>(token / kPanelTokens) *
                              kPanelTokens * p.channels +
                          token % kPanelTokens;
      const size_t to = static_cast<size_t>(i) * p.channels;
      if (input.type_size == 1) {
        PanelToRows(plan->kernel->isa, Data<uint8_t>(step.inputs[0]) + from, 1,
                    p.channels, Data<int8_t>(step.outputs[0]) + to, p.channels);
        continue;
      }
      const auto* panel = Data<float>(step.inputs[0]) + from;
      auto* row = Data<float>(step.outputs[0]) + to;
      for (int c = 0; c < p.channels; ++c) row[c] = panel[c * kPanelTokens];
    }
    return kTfPofOk;
  }

  TfPofStatus Quantize(const Step& step) const {
    const bool panels = plan->LayoutOf(step.inputs[0]) == kTfPofPanels;
    plan->kernel->quantize(Data<float>(step.inputs[0]),
                           Elements(step.inputs[0]), step.quantization,
                           panels ? kPanelFlip : 0,
                           Data<int8_t>(step.outputs[0]));
    return kTfPofOk;
  }

  TfPofStatus Dequantize(const Step& step) const {
    const bool panels = plan->LayoutOf(step.inputs[0]) == kTfPofPanels;
    plan->kernel->dequantize(Data<int8_t>(step.inputs[0]),
                             Elements(step.inputs[0]), step.quantization,
                             panels ? kPanelFlip : 0,
                             Data<float>(step.outputs[0]));
    return kTfPofOk;
  }

  TfPofStatus Run(const Step& step) const {
    void* first = Data<void>(step.outputs[0]);
    if (first == nullptr && Data<void>(step.outputs[1]) == nullptr) {
      return kTfPofOk;  // nobody reads it
    }
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
        return Mask(step);
      case StepKind::kView:
        return View(step);
      case StepKind::kToken:
        return Token(step);
      case StepKind::kQuantize:
        return Quantize(step);
      case StepKind::kDequantize:
        return Dequantize(step);
      case StepKind::kUnpacked:
        return kTfPofOk;
    }
    return kTfPofInvalidArgument;
  }

  TfPofStatus RunTimed(const Step& step) const {
    StepTime* time = Time(step);
    if (time == nullptr) return Run(step);
    const int64_t waited = TfPofThreadPoolWaited(pool);
    const int64_t begin = Nanoseconds();
    const TfPofStatus status = Run(step);
    time->nanoseconds += Nanoseconds() - begin;
    time->waiting += TfPofThreadPoolWaited(pool) - waited;
    ++time->calls;
    return status;
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

TfLiteStatus Plan::Invoke(TfLiteContext* context, TfPofThreadPool* pool) const {
  bool empty = false;
  if (!packed || !HasMemory(*context, *this, &empty)) {
    return Fail(context, "inputs have changed since they were prepared.");
  }
  if (empty) return kTfLiteOk;
  const Runner runner = {this, context, pool, Arena() + workspace_offset,
                         times.data};
  for (size_t i = 0; i < steps.size; ++i) {
    const Step& step = steps.data[i];
    const TfPofStatus status = runner.RunTimed(step);
    if (status == kTfPofOk) continue;
    if (status == kTfPofInvalidArgument && step.kind == StepKind::kEmbeddings) {
      return Fail(context, "a token, segment or position id is out of range.");
    }
    return Fail(context, Sentence(status));
  }
  return kTfLiteOk;
}

}  // namespace tf_pof
