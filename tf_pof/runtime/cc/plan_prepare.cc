#include <unistd.h>

#include "delegate_report.h"
#include "plan.h"

namespace tf_pof {
namespace {

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
    bool shared = false;
    const TfPofStatus status =
        AcquireLayer(source, pool, &plan->layers.data[i], &shared, &problem);
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
      ReportLayer(weights.name, linear, Get(plan->layers.data[i]), shared,
                  options);
    }
  }
  return true;
}

// The same on all processors, however few threads calls may take: until weights
// are packed nothing else of the model can run.
bool PackOnAllProcessors(TfLiteContext* context, const DelegateOptions& options,
                         TfPofThreadPool* pool, Plan* plan) {
  constexpr long kMost = 16;
  const long processors = Min(sysconf(_SC_NPROCESSORS_ONLN), kMost);
  TfPofThreadPool* larger = nullptr;
  if (processors > TfPofThreadPoolThreads(pool)) {
    larger = TfPofThreadPoolCreate(static_cast<int32_t>(processors));
  }
  const bool packed =
      PackLayers(context, options, larger != nullptr ? larger : pool, plan);
  if (larger != nullptr) TfPofThreadPoolDelete(larger);
  return packed;
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

}  // namespace

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
  if (!packed && !PackOnAllProcessors(context, options, pool, this)) {
    return kTfLiteError;
  }
  packed = true;
  if (options.profile && !times.Resize(steps.size)) {
    context->ReportError(context, "tf_pof: %s", Sentence(kTfPofOutOfMemory));
    return kTfLiteError;
  }
  if (!PlanMemory(TfPofThreadPoolThreads(pool))) {
    context->ReportError(context, "tf_pof: %s", Sentence(kTfPofOutOfMemory));
    return kTfLiteError;
  }
  return kTfLiteOk;
}

}  // namespace tf_pof
