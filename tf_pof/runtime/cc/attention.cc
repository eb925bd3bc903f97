#include "attention.h"

#include <math.h>

#include "buffer.h"
#include "ticks.h"
#include "transformer_kernel.h"

using tf_pof::AttentionTask;
using tf_pof::AttentionTicks;
using tf_pof::CeilDiv;
using tf_pof::ChosenTransformerKernel;
using tf_pof::kCacheLine;
using tf_pof::kPanelTokens;
using tf_pof::kQueryRows;
using tf_pof::Min;
using tf_pof::PlanAttention;
using tf_pof::TransformerKernel;

namespace {

using tf_pof::IsValid;

// Enough for threads of unequal speed.
constexpr int kTasksPerThread = 4;

bool IsValid(const TfPofAttentionParams* params, int32_t batch,
             int32_t sequence) {
  if (params == nullptr || batch < 1 || sequence < 1) return false;
  if (params->num_heads < 1 || params->head_size < 1 ||
      params->head_size > tf_pof::kMaxHeadSize || !IsValid(params->query) ||
      !IsValid(params->key) || !IsValid(params->value) ||
      !IsValid(params->output)) {
    return false;
  }
  const int64_t tokens = static_cast<int64_t>(batch) * sequence;
  const int64_t heads = static_cast<int64_t>(batch) * params->num_heads;
  const int64_t channels =
      static_cast<int64_t>(params->num_heads) * params->head_size;
  if (tokens > INT32_MAX || heads > INT32_MAX || channels > INT32_MAX) {
    return false;
  }
  // So that no score overflows whatever its mask.
  const float scale =
      params->query.scale * params->key.scale * params->score_scale;
  return fabsf(scale) < 1e20f &&
         isfinite(params->value.scale / params->output.scale);
}

// One call.
struct AttentionRun {
  const TransformerKernel* kernel;
  AttentionTask task;  // of the first head
  TfPofLayout layout;
  const float* mask;  // [batch, sequence], or [sequence] if one_mask, or null
  bool one_mask;
  int parts;  // of a head
  int rows;   // queries of a part
  bool timed;
  size_t thread_bytes;
  uint8_t* workspace;  // for each thread a cache line, then its scratch
};

// What is in that cache line.
struct ThreadState {
  int32_t head;  // that is packed, or -1
  AttentionTicks ticks;
};
static_assert(sizeof(ThreadState) <= kCacheLine);

// Bytes of one of the three blocks of rows [sequence, head_size] that the head
// of a panel becomes.
size_t HeadBytes(int32_t sequence, int32_t head_size) {
  const size_t bytes = static_cast<size_t>(sequence) * head_size;
  return CeilDiv(bytes, kCacheLine) * kCacheLine;
}

// A head's channels of some tokens, which may begin and end inside panels.
struct HeadTokens {
  tf_pof::Isa isa;
  size_t channels;  // of all heads
  int head_size;
  size_t first_channel;
  size_t first_token;
  int tokens;

  // Calls convert(panel, rows before it, rows) for what lies in each panel.
  template <typename Convert>
  void ForPanels(const Convert& convert) const {
    for (int done = 0; done < tokens;) {
      const size_t token = first_token + done;
      const int lane = static_cast<int>(token % kPanelTokens);
      const int count = Min(kPanelTokens - lane, tokens - done);
      convert((token - lane) * channels + first_channel * kPanelTokens + lane,
              static_cast<size_t>(done) * head_size, count);
      done += count;
    }
  }

  void ToRows(const int8_t* panels, int8_t* rows) const {
    ForPanels([=](size_t panel, size_t row, int count) {
      tf_pof::PanelToRows(isa, reinterpret_cast<const uint8_t*>(panels) + panel,
                          count, head_size, rows + row, head_size);
    });
  }

  void ToPanels(const int8_t* rows, int8_t* panels) const {
    ForPanels([=](size_t panel, size_t row, int count) {
      tf_pof::RowsToPanel(isa, rows + row, head_size, count, head_size,
                          reinterpret_cast<uint8_t*>(panels) + panel);
    });
  }
};

// Runs a task whose values are panels of `channels`: the head becomes rows in
// the first level cache, and outputs take the place of queries there.
void RunPanelAttention(const AttentionRun& run, AttentionTask task,
                       int32_t batch, size_t first_channel, int8_t* rows) {
  const int head_size = task.params->head_size;
  const size_t bytes = HeadBytes(task.sequence, head_size);
  const size_t first = static_cast<size_t>(batch) * task.sequence;
  HeadTokens tokens = {
      run.kernel->isa, static_cast<size_t>(task.params->num_heads) * head_size,
      head_size,       first_channel,
      first,           task.sequence};
  const int64_t began = run.timed ? tf_pof::Ticks() : 0;
  int8_t* keys = rows + bytes;
  int8_t* values = keys + bytes;
  if (!task.packed) {
    tokens.ToRows(task.key, keys);
    tokens.ToRows(task.value, values);
  }
  tokens.first_token = first + task.query_begin;
  tokens.tokens = task.query_end - task.query_begin;
  int8_t* queries = rows + static_cast<size_t>(task.query_begin) * head_size;
  tokens.ToRows(task.query, queries);
  if (run.timed) task.ticks->packing += tf_pof::Ticks() - began;
  int8_t* output = task.output;
  task.stride = head_size;
  task.query = task.output = rows;
  task.key = keys;
  task.value = values;
  run.kernel->attention(task);
  tokens.ToPanels(queries, output);
}

void RunAttentionTask(void* context, int32_t index, int32_t thread) {
  const AttentionRun& run = *static_cast<AttentionRun*>(context);
  AttentionTask task = run.task;
  const int32_t head = index / run.parts;
  const int32_t batch = head / task.params->num_heads;
  const size_t head_size = task.params->head_size;
  const size_t first_channel = head % task.params->num_heads * head_size;
  if (run.mask != nullptr) {
    task.mask = run.mask;
    if (!run.one_mask) {
      task.mask += static_cast<size_t>(batch) * task.sequence;
    }
  }
  task.query_begin = index % run.parts * run.rows;
  task.query_end = Min(task.query_begin + run.rows, task.sequence);
  // A thread that goes on with the same head has packed it already.
  uint8_t* base = run.workspace + thread * run.thread_bytes;
  auto* state = reinterpret_cast<ThreadState*>(base);
  if (run.parts > 1) {
    task.packed = state->head == head;
    state->head = head;
  }
  task.ticks = run.timed ? &state->ticks : nullptr;
  task.scratch = base + kCacheLine;
  if (run.layout == kTfPofPanels) {
    const size_t packed =
        PlanAttention(task.sequence, task.params->head_size).total;
    RunPanelAttention(run, task, batch, first_channel,
                      reinterpret_cast<int8_t*>(task.scratch + packed));
    return;
  }
  task.stride = task.params->num_heads * head_size;
  const size_t start =
      static_cast<size_t>(batch) * task.sequence * task.stride + first_channel;
  // Not what was just copied: gcc 12 adds to two pointers at once, which waits
  // for the stores of both.
  task.query = run.task.query + start;
  task.key = run.task.key + start;
  task.value = run.task.value + start;
  task.output = run.task.output + start;
  run.kernel->attention(task);
}

}  // namespace

namespace tf_pof {

size_t AttentionThreadBytes(const TfPofAttentionParams* params,
                            int32_t sequence, TfPofLayout layout) {
  if (!::IsValid(params, 1, sequence)) return 0;
  const size_t rows =
      layout == kTfPofPanels ? 3 * HeadBytes(sequence, params->head_size) : 0;
  return kCacheLine + PlanAttention(sequence, params->head_size).total + rows;
}

TfPofStatus RunAttention(const TransformerKernel& kernel,
                         const TfPofAttentionParams* params, int32_t batch,
                         int32_t sequence, const int8_t* query,
                         const int8_t* key, const int8_t* value,
                         const float* mask, int8_t* output, void* workspace,
                         size_t thread_bytes, TfPofThreadPool* pool,
                         AttentionTicks* ticks, TfPofLayout layout,
                         bool one_mask) {
  if (!::IsValid(params, batch, sequence) || query == nullptr ||
      key == nullptr || value == nullptr || output == nullptr ||
      workspace == nullptr) {
    return kTfPofInvalidArgument;
  }
  AttentionRun run = {};
  run.kernel = &kernel;
  run.task.params = params;
  run.task.sequence = sequence;
  run.task.query = query;
  run.task.key = key;
  run.task.value = value;
  run.task.output = output;
  run.layout = layout;
  run.mask = mask;
  run.one_mask = one_mask;
  run.timed = ticks != nullptr;
  run.thread_bytes = thread_bytes;
  const uintptr_t address = reinterpret_cast<uintptr_t>(workspace);
  run.workspace = reinterpret_cast<uint8_t*>(
      CeilDiv<uintptr_t>(address, kCacheLine) * kCacheLine);

  const int32_t threads = TfPofThreadPoolThreads(pool);
  const int32_t heads = batch * params->num_heads;
  const int32_t blocks = CeilDiv(sequence, kQueryRows);
  run.parts = 1;
  if (threads > 1) {
    run.parts = Min(CeilDiv(threads * kTasksPerThread, heads), blocks);
  }
  run.rows = CeilDiv(blocks, run.parts) * kQueryRows;
  run.parts = CeilDiv(sequence, run.rows);
  const auto state = [&run](int32_t thread) {
    return reinterpret_cast<ThreadState*>(run.workspace +
                                          thread * run.thread_bytes);
  };
  for (int32_t i = 0; i < threads && (run.parts > 1 || run.timed); ++i) {
    *state(i) = {-1, {}};
  }
  TfPofThreadPoolRun(pool, heads * run.parts, RunAttentionTask, &run);
  for (int32_t i = 0; run.timed && i < threads; ++i) {
    ticks->packing += state(i)->ticks.packing;
    ticks->scores += state(i)->ticks.scores;
    ticks->values += state(i)->ticks.values;
  }
  return kTfPofOk;
}

}  // namespace tf_pof

size_t TfPofAttentionWorkspace(const TfPofAttentionParams* params,
                               int32_t sequence, int32_t threads) {
  const size_t bytes =
      tf_pof::AttentionThreadBytes(params, sequence, kTfPofRows);
  return bytes == 0 || threads < 1 ? 0 : kCacheLine + bytes * threads;
}

TfPofStatus TfPofAttentionRun(const TfPofAttentionParams* params, int32_t batch,
                              int32_t sequence, const int8_t* query,
                              const int8_t* key, const int8_t* value,
                              const float* mask, int8_t* output,
                              void* workspace, TfPofThreadPool* pool) {
  return tf_pof::RunAttention(
      ChosenTransformerKernel(), params, batch, sequence, query, key, value,
      mask, output, workspace,
      tf_pof::AttentionThreadBytes(params, sequence, kTfPofRows), pool);
}
