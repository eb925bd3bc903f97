#include "run_layers.h"

namespace tf_pof {
namespace {

// Rows kernels take this many tokens at a time.
constexpr int kRowsTokens = 16;
// Of one call; more have several.
constexpr int kMaxLayers = 4;
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

// One call: what threads read, all at one place.
struct alignas(kCacheLine) Run {
  int count;
  int tokens;
  const int8_t* input;
  TfPofLayout input_layout;
  TfPofLayout output_layout;
  Scratch scratch;
  uint8_t* workspace;  // a Scratch for each thread
  size_t thread_bytes;
  int task_tokens;
  // Tasks that a block of tokens is: one, or one for each unit of each layer.
  int tasks_per_block;
  const TfPofFullyConnected* layers[kMaxLayers];
  void* outputs[kMaxLayers];
};

uint8_t* ThreadScratch(const Run& run, int thread) {
  return run.workspace + thread * run.thread_bytes;
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
    RowsToPanel(layer.kernel->isa, from, layer.inputs, tokens, layer.inputs,
                to);
  } else {
    PanelToRows(layer.kernel->isa, reinterpret_cast<const uint8_t*>(from),
                tokens, layer.inputs, reinterpret_cast<int8_t*>(to),
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
    RowsToPanel(layer.kernel->isa, reinterpret_cast<const int8_t*>(from),
                end - begin, tokens, end - begin,
                panels + static_cast<size_t>(begin) * kPanelTokens);
  } else if (layer.type == kTfPofInt8) {
    PanelToRows(layer.kernel->isa, from, tokens, end - begin,
                static_cast<int8_t*>(output) + start + begin, layer.outputs);
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
  const Epilogue epilogue = {layer.type,
                             layer.scales.data,
                             layer.output_zero_point,
                             layer.has_table ? layer.table : nullptr,
                             layer.bounded,
                             layer.permutes_bytes};

  Task task;
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
    task.tokens = tokens;
    layer.kernel->run(layer.packed, epilogue, task);
  } else {
    const Task block = task;
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
}  // namespace

size_t ThreadBytes(const TfPofFullyConnected* const* layers, int count) {
  return Scratch(layers, count).total();
}

TfPofStatus RunLayers(const TfPofFullyConnected* const* layers, int count,
                      int tokens, const int8_t* input, TfPofLayout input_layout,
                      void* const* outputs, TfPofLayout output_layout,
                      void* workspace, size_t thread_bytes,
                      TfPofThreadPool* pool) {
  if (tokens < 1) return kTfPofInvalidArgument;
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
  // Each block of tokens would read all of them from beyond the cache.
  const bool beyond = bytes > kCachedBytes && tokens > kRowsTokens;
  if (count > 1 && (beyond || count > kMaxLayers)) {
    for (int i = 0; i < count; ++i) {
      RunLayers(layers + i, 1, tokens, input, input_layout, outputs + i,
                output_layout, workspace, thread_bytes, pool);
    }
    return kTfPofOk;
  }
  const int threads = TfPofThreadPoolThreads(pool);
  const uintptr_t start = reinterpret_cast<uintptr_t>(workspace);
  uint8_t* aligned =
      static_cast<uint8_t*>(workspace) + (RoundUp(start) - start);
  Run run = {count,
             tokens,
             input,
             input_layout,
             output_layout,
             Scratch(layers, count),
             aligned,
             thread_bytes,
             rows ? kRowsTokens : kPanelTokens,
             1,
             {},
             {}};
  for (int i = 0; i < count; ++i) {
    run.layers[i] = layers[i];
    run.outputs[i] = outputs[i];
  }
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

}  // namespace tf_pof
