#include <stdio.h>
#include <sys/mman.h>

#include "delegate_report.h"
#include "plan.h"
#include "processors.h"

namespace tf_pof {
namespace {

// What packing a plan's layers needs and finds, by step.
struct Packing {
  struct Layer {
    LayerSource source;
    TfPofStatus status;
    const char* problem;
    LayerOrigin origin;
  };
  Buffer<int> steps;  // those to pack
  Buffer<Layer> layers;
  Buffer<FileMapping> mappings;  // by thread
  Plan* plan;
  TfPofThreadPool* pool;  // of one layer's loops, or null
  // By thread, if each packs layers of its own: `scratch_bytes`, made when they
  // are needed, for packed bytes that are decoded.
  Buffer<int8_t*> scratch;
  size_t scratch_bytes;

  int8_t* Scratch(int32_t thread) {
    if (scratch_bytes == 0) return nullptr;
    int8_t*& found = scratch.data[thread];
    if (found == nullptr) {
      // Pages that the system takes back, whatever malloc would keep.
      void* bytes = mmap(nullptr, scratch_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (bytes != MAP_FAILED) found = static_cast<int8_t*>(bytes);
    }
    return found;
  }

  void Free() {
    for (size_t i = 0; i < scratch.size; ++i) {
      if (scratch.data[i] != nullptr) munmap(scratch.data[i], scratch_bytes);
    }
    scratch.Free();
    steps.Free();
    layers.Free();
    mappings.Free();
  }
};

size_t NumWeights(const LayerSource& source) {
  return static_cast<size_t>(source.params.num_inputs) *
         source.params.num_outputs;
}

void PackLayer(void* context, int32_t i, int32_t thread) {
  auto& packing = *static_cast<Packing*>(context);
  Packing::Layer& layer = packing.layers.data[i];
  LayerSource& source = layer.source;
  if (source.packed != nullptr) source.scratch = packing.Scratch(thread);
  layer.status = AcquireLayer(source, packing.pool,
                              &packing.plan->layers.data[packing.steps.data[i]],
                              &layer.origin, &layer.problem);
  if (layer.status != kTfPofOk) return;
  DropFilePages(
      source.packed != nullptr ? source.packed : source.params.weights,
      source.packed != nullptr ? source.packed_bytes : NumWeights(source),
      &packing.mappings.data[thread]);
}

// False after reporting what is wrong.
bool ReportPacking(TfLiteContext* context, const DelegateOptions& options,
                   const Packing& packing) {
  for (size_t i = 0; i < packing.layers.size; ++i) {
    const Packing::Layer& layer = packing.layers.data[i];
    const int step = packing.steps.data[i];
    const LinearParams& linear = packing.plan->steps.data[step].linear;
    const char* name = context->tensors[linear.weights].name;
    if (layer.status != kTfPofOk) {
      context->ReportError(
          context, "tf_pof: weights %s: %s", name == nullptr ? "" : name,
          layer.problem != nullptr ? layer.problem : Sentence(layer.status));
      return false;
    }
    if (options.verbose) {
      ReportLayer(name, linear, Get(packing.plan->layers.data[step]),
                  layer.origin, options);
    }
  }
  return true;
}

bool PackLayers(TfLiteContext* context, const DelegateOptions& options,
                TfPofThreadPool* pool, Plan* plan) {
  Packing packing = {};
  packing.plan = plan;
  const int threads = TfPofThreadPoolThreads(pool);
  bool stored =
      packing.mappings.Resize(threads) && packing.scratch.Resize(threads);
  // More would be the work of a file that only says so.
  constexpr size_t kMostScratch = 64 << 20;
  size_t largest = 0;  // of packed layers
  for (size_t i = 0; stored && i < plan->steps.size; ++i) {
    const Step& step = plan->steps.data[i];
    if (step.kind != StepKind::kLinear || plan->layers.data[i] != nullptr) {
      continue;
    }
    const LayerSource source = SourceOf(context, step.linear, options);
    if (source.packed != nullptr) largest = Max(largest, NumWeights(source));
    stored = packing.steps.Append(static_cast<int>(i)) &&
             packing.layers.Append(
                 {source, kTfPofOk, nullptr, LayerOrigin::kPacked});
  }
  const auto count = static_cast<int32_t>(packing.steps.size);
  if (!stored) {
    context->ReportError(context, "tf_pof: %s", Sentence(kTfPofOutOfMemory));
  } else if (count >= 2 * threads) {
    // A thread a layer: nothing waits for the last unit of each.
    packing.scratch_bytes = largest > kMostScratch ? 0 : largest;
    TfPofThreadPoolRun(pool, count, PackLayer, &packing);
  } else {
    packing.pool = pool;
    for (int32_t i = 0; i < count; ++i) PackLayer(&packing, i, 0);
  }
  const bool packed = stored && ReportPacking(context, options, packing);
  packing.Free();
  return packed;
}

// The same on all processors, however few threads calls may take: until weights
// are packed nothing else of the model can run. Threads are not those of calls:
// two models of one delegate could wait for each other, one for a layer that
// the other packs, the other for the threads.
bool PackOnAllProcessors(TfLiteContext* context, const DelegateOptions& options,
                         Plan* plan) {
  TfPofThreadPool* pool = TfPofThreadPoolCreate(Processors());
  const bool packed = PackLayers(context, options, pool, plan);
  TfPofThreadPoolDelete(pool);
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

// Which steps share work, and what never becomes rows.
void ReportPlan(const TfLiteContext& context, const Plan& plan) {
  const auto name = [&](int tensor) {
    const char* found = context.tensors[tensor].name;
    return found == nullptr ? "" : found;
  };
  for (size_t i = 0; i < plan.steps.size; ++i) {
    const int count = plan.together.data[i];
    if (count < 2) continue;
    fprintf(stderr, "tf_pof: one call for %d layers of one input:", count);
    for (int j = 0; j < count; ++j) {
      fprintf(stderr, " %s", name(plan.steps.data[i + j].linear.weights));
    }
    fprintf(stderr, "\n");
  }
  for (size_t i = 0; i < plan.values.size; ++i) {
    const Value& value = plan.values.data[i];
    if (value.layout == kTfPofPanels) {
      fprintf(stderr, "tf_pof: stays in panels: %s\n", name(value.tensor));
    }
  }
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
  if (options.cache_dir[0] != '\0') source.cache_dir = options.cache_dir;
  return source;
}

TfLiteStatus Plan::Prepare(TfLiteContext* context,
                           const DelegateOptions& options,
                           TfPofThreadPool* pool) {
  if (!InferShapes(context) || !ResizeOutputs(context, *this)) {
    return kTfLiteError;
  }
  // Options of unknown instructions were refused.
  Isa isa = kBestIsa;
  FindIsa(options.isa, &isa);
  kernel = &BestTransformerKernel(isa);
  if (!packed && !PackOnAllProcessors(context, options, this)) {
    return kTfLiteError;
  }
  const bool first = !packed;
  packed = true;
  if (options.profile && !times.Resize(steps.size)) {
    context->ReportError(context, "tf_pof: %s", Sentence(kTfPofOutOfMemory));
    return kTfLiteError;
  }
  if (!PlanMemory(TfPofThreadPoolThreads(pool))) {
    context->ReportError(context, "tf_pof: %s", Sentence(kTfPofOutOfMemory));
    return kTfLiteError;
  }
  if (first && options.verbose) ReportPlan(*context, *this);
  return kTfLiteOk;
}

}  // namespace tf_pof
