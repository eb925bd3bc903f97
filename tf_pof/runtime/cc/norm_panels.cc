// Layer norms and embeddings of panels: each task is one of 64 tokens. Values
// that are rows, as inputs and outputs of a model are, are converted.
#include <string.h>

#include "buffer.h"
#include "transformer_kernel.h"

namespace tf_pof {
namespace {

// What a thread converts in: offsets in bytes, of as much as is needed.
struct Scratch {
  size_t residual;
  size_t float_x;
  size_t x;
  size_t sums;
  size_t quantized;
  size_t rows;  // of an embedding table
  size_t total;

  Scratch(const NormLayouts& layouts, int channels, bool embeddings) {
    total = 0;
    const size_t bytes = static_cast<size_t>(channels) * kPanelTokens;
    const auto take = [this](bool needed, size_t size) {
      const size_t begin = total;
      if (needed) total += size;
      return begin;
    };
    const size_t floats = bytes * sizeof(float);
    residual = take(layouts.residual == kTfPofRows && !embeddings, floats);
    float_x = take(layouts.float_x == kTfPofRows && !embeddings, floats);
    x = take(layouts.x == kTfPofRows || embeddings, bytes);
    sums = take(layouts.output == kTfPofRows, floats);
    quantized = take(layouts.quantized == kTfPofRows, bytes);
    rows = take(embeddings, bytes);
  }
};

// One call.
struct PanelRun {
  const TransformerKernel* kernel;
  NormTask task;
  int tokens;
  Scratch scratch;
  uint8_t* workspace;
  size_t thread_bytes;  // of it, with room for a Scratch
};

void FloatsToPanel(const float* rows, int tokens, int channels, float* panel) {
  for (int c = 0; c < channels; ++c) {
    for (int t = 0; t < tokens; ++t) {
      panel[c * kPanelTokens + t] = rows[static_cast<size_t>(t) * channels + c];
    }
  }
}

void PanelToFloats(const float* panel, int tokens, int channels, float* rows) {
  for (int t = 0; t < tokens; ++t) {
    for (int c = 0; c < channels; ++c) {
      rows[static_cast<size_t>(t) * channels + c] = panel[c * kPanelTokens + t];
    }
  }
}

const float* Floats(const float* values, TfPofLayout layout, size_t start,
                    int tokens, int channels, float* scratch) {
  if (values == nullptr) return nullptr;
  if (layout == kTfPofPanels) return values + start;
  FloatsToPanel(values + start, tokens, channels, scratch);
  return scratch;
}

// Table `index` of tokens from `first` on, as a panel.
void LookUpPanel(const PanelRun& run, int index, int first, int tokens,
                 uint8_t* rows, uint8_t* panel) {
  const size_t channels = run.task.params->channels;
  const int8_t* table = run.task.tables[index].table;
  const int32_t* ids = run.task.ids[index];
  for (int t = 0; t < tokens; ++t) {
    const int32_t id =
        ids == nullptr ? (first + t) % run.task.sequence : ids[first + t];
    memcpy(rows + t * channels, table + id * channels, channels);
  }
  RowsToPanel(run.kernel->isa, reinterpret_cast<const int8_t*>(rows), channels,
              tokens, static_cast<int>(channels), panel);
}

void RunPanelTask(void* context, int32_t index, int32_t thread) {
  const PanelRun& run = *static_cast<PanelRun*>(context);
  const NormTask& all = run.task;
  const NormLayouts& layouts = all.layouts;
  const int channels = all.params->channels;
  const int first = index * kPanelTokens;
  const int tokens = Min(kPanelTokens, run.tokens - first);
  const size_t start = static_cast<size_t>(first) * channels;
  uint8_t* base = run.workspace + thread * run.thread_bytes;
  const auto floats = [base](size_t offset) {
    return reinterpret_cast<float*>(base + offset);
  };

  PanelNormTask task = {};
  task.params = all.params;
  task.tokens = tokens;
  const bool direct = all.output != nullptr && layouts.output == kTfPofPanels;
  task.sums = direct ? all.output + start : floats(run.scratch.sums);
  task.writes_floats = all.output != nullptr;
  if (all.quantized != nullptr) {
    task.quantized = layouts.quantized == kTfPofPanels
                         ? reinterpret_cast<uint8_t*>(all.quantized) + start
                         : base + run.scratch.quantized;
  }
  if (all.tables == nullptr) {
    task.residual = Floats(all.residual, layouts.residual, start, tokens,
                           channels, floats(run.scratch.residual));
    task.float_x = Floats(all.float_x, layouts.float_x, start, tokens, channels,
                          floats(run.scratch.float_x));
    if (task.residual == nullptr && task.float_x != nullptr) {
      task.residual = task.float_x;
      task.float_x = nullptr;
    }
    if (all.x != nullptr && layouts.x == kTfPofPanels) {
      task.x = reinterpret_cast<const uint8_t*>(all.x) + start;
    } else if (all.x != nullptr) {
      uint8_t* panel = base + run.scratch.x;
      RowsToPanel(run.kernel->isa, all.x + start, channels, tokens, channels,
                  panel);
      task.x = panel;
    }
    run.kernel->panel_norm(task);
  } else {
    uint8_t* panel = base + run.scratch.x;
    TfPofLayerNormParams params = *all.params;
    params.x_multipliers = nullptr;
    task.params = &params;
    task.x = panel;
    for (int i = 0; i < all.num_tables; ++i) {
      LookUpPanel(run, i, first, tokens, base + run.scratch.rows, panel);
      params.x = all.tables[i].quantization;
      task.only_sums = i + 1 < all.num_tables;
      run.kernel->panel_norm(task);
      task.residual = task.sums;
    }
  }
  if (all.output != nullptr && !direct) {
    PanelToFloats(task.sums, tokens, channels, all.output + start);
  }
  if (all.quantized != nullptr && layouts.quantized == kTfPofRows) {
    PanelToRows(run.kernel->isa, task.quantized, tokens, channels,
                all.quantized + start, channels);
  }
}

}  // namespace

size_t NormThreadBytes(const NormLayouts& layouts, int channels,
                       bool embeddings) {
  return layouts.panels ? Scratch(layouts, channels, embeddings).total : 0;
}

void RunNormPanels(const TransformerKernel& kernel, const NormTask& task,
                   int32_t tokens, void* workspace, size_t thread_bytes,
                   TfPofThreadPool* pool) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(workspace);
  PanelRun run = {
      &kernel,
      task,
      tokens,
      Scratch(task.layouts, task.params->channels, task.tables != nullptr),
      reinterpret_cast<uint8_t*>(CeilDiv<uintptr_t>(address, kCacheLine) *
                                 kCacheLine),
      thread_bytes};
  TfPofThreadPoolRun(pool, CeilDiv(tokens, kPanelTokens), RunPanelTask, &run);
}

}  // namespace tf_pof
