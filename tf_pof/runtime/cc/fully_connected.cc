#include "fully_connected.h"

#include "buffer.h"
#include "kernel.h"
#include "stored.h"

using tf_pof::Buffer;
using tf_pof::CeilDiv;
using tf_pof::kCacheLine;
using tf_pof::Kernel;
using tf_pof::kPanelTokens;
using tf_pof::kUnit;
using tf_pof::Max;
using tf_pof::Min;

struct TfPofFullyConnected {
  const Kernel* kernel;
  void* packed;  // owned, the kernel's
  int inputs;
  int outputs;
  int units;
  TfPofOutputType type;
  int32_t output_zero_point;
  Buffer<float> scales;  // [outputs], of the epilogue
  bool bounded;          // see Epilogue
  bool has_table;
  uint8_t table[256];
};

namespace {

// Rows kernels take this many tokens at a time.
constexpr int kRowsTokens = 16;
// Packed weights that stay in an L2 cache.
constexpr size_t kCachedBytes = size_t{896} << 10;

size_t RoundUp(size_t bytes) { return CeilDiv(bytes, kCacheLine) * kCacheLine; }

// What a thread needs for itself, the most of all layers of a call.
struct Scratch {
  size_t kernel = 0;
  size_t input = 0;   // 64 tokens in the kernel's layout
  size_t output = 0;  // 64 tokens of all outputs in the kernel's layout

  Scratch(const TfPofFullyConnected* const* layers, int count) {
    for (int i = 0; i < count; ++i) {
      const TfPofFullyConnected& layer = *layers[i];
      const size_t outputs = static_cast<size_t>(layer.units) * kUnit;
      const size_t width = layer.type == kTfPofInt8 ? 1 : sizeof(int32_t);
      kernel = Max(kernel, RoundUp(layer.kernel->scratch_bytes(layer.packed)));
      input =
          Max(input, RoundUp(static_cast<size_t>(layer.inputs) * kPanelTokens));
      output = Max(output, RoundUp(outputs * kPanelTokens * width));
    }
  }
  size_t total() const { return kCacheLine + kernel + input + output; }
};

// One call.
struct Run {
  const TfPofFullyConnected* const* layers;
  int count;
  int tokens;
  const int8_t* input;
  TfPofLayout input_layout;
  void* const* outputs;
  TfPofLayout output_layout;
  Scratch scratch;
  uint8_t* workspace;  // a Scratch for each thread
  int task_tokens;
  // Tasks that a block of tokens is: one, or one for each unit of each layer.
  int tasks_per_block;
};

uint8_t* ThreadScratch(const Run& run, int thread) {
  return run.workspace + thread * run.scratch.total();
}

void ClearConverted(const Run& run, int thread) {
  *reinterpret_cast<int32_t*>(ThreadScratch(run, thread)) = -1;
}

// Input of the block of tokens that begins at `first`, in the kernel's layout.
const void* TaskInput(const Run& run, const TfPofFullyConnected& layer,
                      int first, int tokens, uint8_t* base) {
  const TfPofLayout wanted = layer.kernel->layout;
  const int8_t* from = run.input + static_cast<size_t>(first) * layer.inputs;
  if (run.input_layout == wanted) return from;
  // A thread that goes on with the same tokens has them already.
  auto* converted = reinterpret_cast<int32_t*>(base);
  uint8_t* to = base + kCacheLine + run.scratch.kernel;
  if (*converted == first) return to;
  *converted = first;
  if (wanted == kTfPofPanels) {
    tf_pof::RowsToPanel(from, layer.inputs, tokens, layer.inputs, to);
  } else {
    tf_pof::PanelToRows(reinterpret_cast<const uint8_t*>(from), tokens,
                        layer.inputs, reinterpret_cast<int8_t*>(to),
                        layer.inputs);
  }
  return to;
}

// Copies a kernel's output for outputs [begin, end) to where it belongs.
void ConvertOutput(const Run& run, int index, int first, int tokens, int begin,
                   int end, const uint8_t* from) {
  const TfPofFullyConnected& layer = *run.layers[index];
  void* output = run.outputs[index];
  const size_t start = static_cast<size_t>(first) * layer.outputs;
  if (run.output_layout == kTfPofPanels) {
    auto* panels = static_cast<uint8_t*>(output) + start;
    tf_pof::RowsToPanel(reinterpret_cast<const int8_t*>(from), end - begin,
                        tokens, end - begin,
                        panels + static_cast<size_t>(begin) * kPanelTokens);
  } else if (layer.type == kTfPofInt8) {
    tf_pof::PanelToRows(from, tokens, end - begin,
                        static_cast<int8_t*>(output) + start + begin,
                        layer.outputs);
  } else {
    auto* values = reinterpret_cast<const uint32_t*>(from);
    auto* rows = static_cast<uint32_t*>(output) + start;
    for (int t = 0; t < tokens; ++t) {
      for (int n = begin; n < end; ++n) {
        rows[static_cast<size_t>(t) * layer.outputs + n] =
            values[static_cast<size_t>(n - begin) * kPanelTokens + t];
      }
    }
  }
}

// Where the kernel may write at once, or null if it needs a conversion.
void* DirectOutput(const Run& run, int index, int first, int begin) {
  const TfPofFullyConnected& layer = *run.layers[index];
  if (run.output_layout != layer.kernel->layout) return nullptr;
  const size_t start = static_cast<size_t>(first) * layer.outputs;
  const size_t width = layer.type == kTfPofInt8 ? 1 : sizeof(int32_t);
  const size_t skip = run.output_layout == kTfPofPanels
                          ? static_cast<size_t>(begin) * kPanelTokens
                          : static_cast<size_t>(begin);
  return static_cast<uint8_t*>(run.outputs[index]) + (start + skip) * width;
}

// Units [unit_begin, unit_end) of a layer for the block of tokens from `first`.
void RunUnits(const Run& run, int index, int first, int unit_begin,
              int unit_end, bool prepared, uint8_t* base) {
  const TfPofFullyConnected& layer = *run.layers[index];
  const int tokens = Min(run.task_tokens, run.tokens - first);
  const tf_pof::Epilogue epilogue = {
      layer.type, layer.scales.data, layer.output_zero_point,
      layer.has_table ? layer.table : nullptr, layer.bounded};

  tf_pof::Task task;
  task.unit_begin = unit_begin;
  task.unit_end = unit_end;
  const int begin = task.unit_begin * kUnit;
  const int end = Min(task.unit_end * kUnit, layer.outputs);
  task.input = TaskInput(run, layer, first, tokens, base);
  task.output = DirectOutput(run, index, first, begin);
  task.stride = layer.outputs;
  task.scratch = base + kCacheLine;
  task.prepared = prepared;

  uint8_t* own = nullptr;
  if (task.output == nullptr) {
    own = task.scratch + run.scratch.kernel + run.scratch.input;
    task.output = own;
    task.stride = end - begin;
  }
  if (layer.kernel->layout == kTfPofPanels) {
    task.tokens = kPanelTokens;
    layer.kernel->run(layer.packed, epilogue, task);
  } else {
    const tf_pof::Task block = task;
    const size_t width = layer.type == kTfPofInt8 ? 1 : sizeof(int32_t);
    for (int t = 0; t < tokens; t += kRowsTokens) {
      task.tokens = Min(kRowsTokens, tokens - t);
      task.input = static_cast<const int8_t*>(block.input) +
                   static_cast<size_t>(t) * layer.inputs;
      task.output =
          static_cast<uint8_t*>(block.output) + t * block.stride * width;
      layer.kernel->run(layer.packed, epilogue, task);
    }
  }
  if (own != nullptr) {
    ConvertOutput(run, index, first, tokens, begin, end, own);
  }
}

void RunTask(void* context, int32_t index, int32_t thread) {
  const Run& run = *static_cast<Run*>(context);
  const int first = index / run.tasks_per_block * run.task_tokens;
  int unit = index % run.tasks_per_block;
  uint8_t* base = ThreadScratch(run, thread);
  if (run.tasks_per_block == 1) ClearConverted(run, thread);
  for (int i = 0; i < run.count; ++i) {
    const int units = run.layers[i]->units;
    if (run.tasks_per_block == 1) {
      const bool prepared =
          i > 0 && run.layers[i]->kernel == run.layers[i - 1]->kernel &&
          run.task_tokens == kRowsTokens;
      RunUnits(run, i, first, 0, units, prepared, base);
    } else if (unit < units) {
      RunUnits(run, i, first, unit, unit + 1, false, base);
      return;
    } else {
      unit -= units;
    }
  }
}

bool Positive(float value) { return value > 0.0f && value < 3.0e38f; }

bool ZeroPoint(int32_t value) { return value >= -128 && value <= 127; }

bool Valid(const TfPofFullyConnectedParams& p) {
  if (p.num_inputs < 1 || p.num_outputs < 1 ||
      (p.weights == nullptr) == (p.read_rows == nullptr) ||
      p.weight_scales == nullptr || p.num_outputs > INT32_MAX / kPanelTokens ||
      p.num_inputs > INT32_MAX / kPanelTokens ||
      p.num_inputs > INT32_MAX / p.num_outputs) {
    return false;
  }
  if (p.num_weight_scales != 1 && p.num_weight_scales != p.num_outputs) {
    return false;
  }
  if (!Positive(p.input_scale) || !ZeroPoint(p.input_zero_point)) return false;
  for (int i = 0; i < p.num_weight_scales; ++i) {
    if (!Positive(p.weight_scales[i])) return false;
  }
  switch (p.output_type) {
    case kTfPofInt8:
      return Positive(p.output_scale) && ZeroPoint(p.output_zero_point);
    case kTfPofFloat32:
    case kTfPofInt32:
      return p.table == nullptr;
  }
  return false;
}

bool FillEpilogue(const TfPofFullyConnectedParams& p,
                  TfPofFullyConnected* layer) {
  if (!layer->scales.Resize(p.num_outputs)) return false;
  layer->bounded = true;
  for (int n = 0; n < p.num_outputs; ++n) {
    float scale =
        p.input_scale * p.weight_scales[p.num_weight_scales == 1 ? 0 : n];
    if (p.output_type == kTfPofInt8) scale /= p.output_scale;
    layer->scales.data[n] = scale;
    layer->bounded &= scale < 1.0f;
  }
  layer->has_table = p.table != nullptr;
  for (int i = 0; layer->has_table && i < 256; ++i) {
    layer->table[i] = static_cast<uint8_t>(p.table[i] + 128);
  }
  return true;
}

}  // namespace

TfPofStatus tf_pof::CreateLayer(const TfPofFullyConnectedParams& params,
                                const char* kernel, int32_t tokens,
                                TfPofThreadPool* pool,
                                const StoredArrays* stored,
                                TfPofFullyConnected** result) {
  *result = nullptr;
  if (!Valid(params) || tokens < 1) return kTfPofInvalidArgument;
  tf_pof::Isa isa;
  if (!tf_pof::FindIsa(params.isa, &isa)) return kTfPofNoKernel;
  const Kernel* chosen =
      kernel == nullptr ? nullptr : tf_pof::FindKernel(kernel, isa);
  if (kernel != nullptr && chosen == nullptr) return kTfPofNoKernel;
  if (stored != nullptr && (chosen == nullptr || chosen->list == nullptr)) {
    return kTfPofInvalidArgument;
  }
  auto* layer =
      static_cast<TfPofFullyConnected*>(calloc(1, sizeof(TfPofFullyConnected)));
  if (layer == nullptr) return kTfPofOutOfMemory;
  layer->inputs = params.num_inputs;
  layer->outputs = params.num_outputs;
  layer->units = CeilDiv(params.num_outputs, kUnit);
  layer->type = params.output_type;
  layer->output_zero_point = params.output_zero_point;
  TfPofStatus status = kTfPofOutOfMemory;
  if (FillEpilogue(params, layer)) {
    const tf_pof::Layer source = {params.num_inputs,
                                  params.num_outputs,
                                  params.weights,
                                  params.read_rows,
                                  params.read_context,
                                  params.bias,
                                  layer->scales.data,
                                  params.input_zero_point,
                                  pool,
                                  stored};
    status = chosen == nullptr
                 ? tf_pof::ChooseKernel(source, tokens, isa, &chosen)
                 : kTfPofOk;
    layer->kernel = chosen;
    if (status == kTfPofOk) status = chosen->pack(source, &layer->packed);
  }
  if (status != kTfPofOk) {
    TfPofFullyConnectedDelete(layer);
    return status;
  }
  *result = layer;
  return kTfPofOk;
}

TfPofStatus TfPofFullyConnectedCreate(const TfPofFullyConnectedParams* params,
                                      const char* kernel, int32_t tokens,
                                      TfPofThreadPool* pool,
                                      TfPofFullyConnected** result) {
  return tf_pof::CreateLayer(*params, kernel, tokens, pool, nullptr, result);
}

bool tf_pof::ListArrays(const TfPofFullyConnected* layer,
                        StoredArrays* arrays) {
  *arrays = {};
  if (layer->kernel->list == nullptr) return false;
  layer->kernel->list(layer->packed, arrays);
  return true;
}

void TfPofFullyConnectedDelete(TfPofFullyConnected* layer) {
  if (layer == nullptr) return;
  if (layer->packed != nullptr) layer->kernel->free_packed(layer->packed);
  layer->scales.Free();
  free(layer);
}

const char* TfPofFullyConnectedKernel(const TfPofFullyConnected* layer) {
  return layer->kernel->name;
}

size_t TfPofFullyConnectedBytes(const TfPofFullyConnected* layer) {
  return layer->kernel->packed_bytes(layer->packed) + layer->scales.bytes();
}

size_t TfPofFullyConnectedWorkspace(const TfPofFullyConnected* layer,
                                    int32_t threads) {
  return TfPofFullyConnectedWorkspaceAll(&layer, 1, threads);
}

size_t TfPofFullyConnectedWorkspaceAll(const TfPofFullyConnected* const* layers,
                                       int32_t count, int32_t threads) {
  return kCacheLine + Scratch(layers, count).total() * Max(threads, 1);
}

TfPofStatus TfPofFullyConnectedRun(const TfPofFullyConnected* layer,
                                   int32_t tokens, const int8_t* input,
                                   TfPofLayout input_layout, void* output,
                                   TfPofLayout output_layout, void* workspace,
                                   TfPofThreadPool* pool) {
  return TfPofFullyConnectedRunAll(&layer, 1, tokens, input, input_layout,
                                   &output, output_layout, workspace, pool);
}

TfPofStatus TfPofFullyConnectedRunAll(
    const TfPofFullyConnected* const* layers, int32_t count, int32_t tokens,
    const int8_t* input, TfPofLayout input_layout, void* const* outputs,
    TfPofLayout output_layout, void* workspace, TfPofThreadPool* pool) {
  if (tokens < 1 || count < 1) return kTfPofInvalidArgument;
  bool rows = input_layout == kTfPofRows && output_layout == kTfPofRows;
  int units = 0;
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) {
    if (layers[i]->inputs != layers[0]->inputs ||
        (output_layout == kTfPofPanels && layers[i]->type != kTfPofInt8)) {
      return kTfPofInvalidArgument;
    }
    rows &= layers[i]->kernel->layout == kTfPofRows;
    units += layers[i]->units;
    bytes += layers[i]->kernel->packed_bytes(layers[i]->packed);
  }
  if (count > 1 && bytes > kCachedBytes && tokens > kRowsTokens) {
    // Each block of tokens would read all of them from beyond the cache.
    for (int i = 0; i < count; ++i) {
      TfPofFullyConnectedRun(layers[i], tokens, input, input_layout, outputs[i],
                             output_layout, workspace, pool);
    }
    return kTfPofOk;
  }
  const int threads = TfPofThreadPoolThreads(pool);
  const uintptr_t start = reinterpret_cast<uintptr_t>(workspace);
  uint8_t* aligned =
      static_cast<uint8_t*>(workspace) + (RoundUp(start) - start);
  Run run = {layers,
             count,
             tokens,
             input,
             input_layout,
             outputs,
             output_layout,
             Scratch(layers, count),
             aligned,
             rows ? kRowsTokens : kPanelTokens,
             1};
  const int blocks = CeilDiv(tokens, run.task_tokens);
  // Whole blocks of tokens if the threads can share them evenly.
  if (blocks % threads != 0 && blocks < 4 * threads) {
    run.tasks_per_block = units;
  }
  // Of whole blocks each thread clears its own.
  for (int i = 0; i < threads && run.tasks_per_block > 1; ++i) {
    ClearConverted(run, i);
  }
  TfPofThreadPoolRun(pool, blocks * run.tasks_per_block, RunTask, &run);
  return kTfPofOk;
}
