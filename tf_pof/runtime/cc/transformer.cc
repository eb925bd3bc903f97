#include "transformer.h"

#include <math.h>

#include "attention.h"
#include "buffer.h"
#include "transformer_kernel.h"

using tf_pof::AttentionScratch;
using tf_pof::AttentionTask;
using tf_pof::AttentionTicks;
using tf_pof::BestTransformerKernel;
using tf_pof::CeilDiv;
using tf_pof::kCacheLine;
using tf_pof::kQueryRows;
using tf_pof::Min;
using tf_pof::NormTask;
using tf_pof::PlanAttention;
using tf_pof::TransformerKernel;

namespace {

// Enough for threads of unequal speed.
constexpr int kTasksPerThread = 4;
// A task has about this many values, so that a token alone is not one,
constexpr int kNormValues = 4096;
// or the tokens that a task of fully-connected layers has, so that they stay
// with their thread.
constexpr int kBlockTokens = 16;

bool IsValid(const TfPofQuantization& quantization) {
  return quantization.scale > 0.0f && isfinite(quantization.scale) &&
         isfinite(1.0f / quantization.scale) &&
         quantization.zero_point >= -128 && quantization.zero_point <= 127;
}

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
  const float* mask;   // [batch, sequence] or null
  int parts;           // of a head
  int rows;            // queries of a part
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

void RunAttentionTask(void* context, int32_t index, int32_t thread) {
  const AttentionRun& run = *static_cast<AttentionRun*>(context);
  AttentionTask task = run.task;
  const int32_t head = index / run.parts;
  const int32_t batch = head / task.params->num_heads;
  const size_t heads = task.params->num_heads;
  const size_t start = (batch * static_cast<size_t>(task.sequence) * heads +
                        head % task.params->num_heads) *
                       task.params->head_size;
  task.query += start;
  task.key += start;
  task.value += start;
  task.output += start;
  if (run.mask != nullptr) {
    task.mask = run.mask + static_cast<size_t>(batch) * task.sequence;
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
  run.kernel->attention(task);
}

struct NormRun {
  const TransformerKernel* kernel;
  NormTask task;
  int tokens;
  int tokens_per_task;
};

void RunNormTask(void* context, int32_t index, int32_t thread) {
  (void)thread;
  const NormRun& run = *static_cast<NormRun*>(context);
  NormTask task = run.task;
  task.begin = index * run.tokens_per_task;
  task.end = Min(task.begin + run.tokens_per_task, run.tokens);
  if (task.tables != nullptr) {
    run.kernel->embeddings(task);
  } else {
    run.kernel->layer_norm(task);
  }
}

bool IsValid(const NormTask& task, int32_t tokens) {
  const TfPofLayerNormParams* params = task.params;
  if (params == nullptr || tokens < 1 || params->channels < 1 ||
      params->channels > tf_pof::kMaxChannels || params->gamma == nullptr ||
      params->beta == nullptr || !isfinite(params->epsilon) ||
      params->epsilon < 0.0f) {
    return false;
  }
  if (task.output == nullptr && task.quantized == nullptr) return false;
  if (task.quantized != nullptr && !IsValid(params->output)) return false;
  if (task.tables != nullptr) return true;
  if (task.x != nullptr) {
    return task.float_x == nullptr && IsValid(params->x);
  }
  return task.residual != nullptr || task.float_x != nullptr;
}

bool IsValid(const TfPofTable* tables, const int32_t* const* ids,
             int32_t num_tables, int32_t tokens, int32_t sequence) {
  if (tables == nullptr || ids == nullptr || num_tables < 1 ||
      num_tables > tf_pof::kMaxTables || tokens < 1 || sequence < 1) {
    return false;
  }
  for (int32_t i = 0; i < num_tables; ++i) {
    const int32_t rows = tables[i].rows;
    if (rows < 1 || tables[i].table == nullptr ||
        !IsValid(tables[i].quantization)) {
      return false;
    }
    if (ids[i] == nullptr) {
      if (Min(tokens, sequence) > rows) return false;
      continue;
    }
    for (int32_t t = 0; t < tokens; ++t) {
      if (ids[i][t] < 0 || ids[i][t] >= rows) return false;
    }
  }
  return true;
}

}  // namespace

namespace tf_pof {

size_t AttentionThreadBytes(const TfPofAttentionParams* params,
                            int32_t sequence) {
  if (!IsValid(params, 1, sequence)) return 0;
  return kCacheLine + PlanAttention(sequence, params->head_size).total;
}

TfPofStatus RunAttention(const TransformerKernel& kernel,
                         const TfPofAttentionParams* params, int32_t batch,
                         int32_t sequence, const int8_t* query,
                         const int8_t* key, const int8_t* value,
                         const float* mask, int8_t* output, void* workspace,
                         size_t thread_bytes, TfPofThreadPool* pool,
                         AttentionTicks* ticks) {
  if (!IsValid(params, batch, sequence) || query == nullptr || key == nullptr ||
      value == nullptr || output == nullptr || workspace == nullptr) {
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
  run.mask = mask;
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

TfPofStatus RunNorm(const TransformerKernel& kernel, NormTask task,
                    int32_t tokens, TfPofThreadPool* pool) {
  if (!IsValid(task, tokens)) return kTfPofInvalidArgument;
  NormRun run = {&kernel, task, tokens, tokens};
  const int threads = TfPofThreadPoolThreads(pool);
  const int blocks = CeilDiv(tokens, kBlockTokens);
  if (threads > 1) {
    run.tokens_per_task = blocks % threads == 0 || blocks >= 4 * threads
                              ? kBlockTokens
                              : CeilDiv(kNormValues, task.params->channels);
  }
  TfPofThreadPoolRun(pool, CeilDiv(tokens, run.tokens_per_task), RunNormTask,
                     &run);
  return kTfPofOk;
}

TfPofStatus RunEmbeddings(const TransformerKernel& kernel,
                          const TfPofTable* tables, const int32_t* const* ids,
                          int32_t num_tables, int32_t tokens, int32_t sequence,
                          const TfPofLayerNormParams* norm, float* output,
                          int8_t* quantized, TfPofThreadPool* pool) {
  if (!IsValid(tables, ids, num_tables, tokens, sequence)) {
    return kTfPofInvalidArgument;
  }
  NormTask task = {};
  task.params = norm;
  task.output = output;
  task.quantized = quantized;
  task.tables = tables;
  task.ids = ids;
  task.num_tables = num_tables;
  task.sequence = sequence;
  return RunNorm(kernel, task, tokens, pool);
}

}  // namespace tf_pof

size_t TfPofAttentionWorkspace(const TfPofAttentionParams* params,
                               int32_t sequence, int32_t threads) {
  const size_t bytes = tf_pof::AttentionThreadBytes(params, sequence);
  return bytes == 0 || threads < 1 ? 0 : kCacheLine + bytes * threads;
}

TfPofStatus TfPofAttentionRun(const TfPofAttentionParams* params, int32_t batch,
                              int32_t sequence, const int8_t* query,
                              const int8_t* key, const int8_t* value,
                              const float* mask, int8_t* output,
                              void* workspace, TfPofThreadPool* pool) {
  return tf_pof::RunAttention(BestTransformerKernel(), params, batch, sequence,
                              query, key, value, mask, output, workspace,
                              tf_pof::AttentionThreadBytes(params, sequence),
                              pool);
}

TfPofStatus TfPofLayerNormRun(const TfPofLayerNormParams* params,
                              int32_t tokens, const float* residual,
                              const int8_t* x, const float* float_x,
                              float* output, int8_t* quantized,
                              TfPofThreadPool* pool) {
  NormTask task = {};
  task.params = params;
  task.output = output;
  task.quantized = quantized;
  task.residual = residual;
  task.float_x = float_x;
  task.x = x;
  return tf_pof::RunNorm(BestTransformerKernel(), task, tokens, pool);
}

TfPofStatus TfPofEmbeddingsRun(const TfPofTable* tables,
                               const int32_t* const* ids, int32_t num_tables,
                               int32_t tokens, int32_t sequence,
                               const TfPofLayerNormParams* norm, float* output,
                               int8_t* quantized, TfPofThreadPool* pool) {
  return tf_pof::RunEmbeddings(BestTransformerKernel(), tables, ids, num_tables,
                               tokens, sequence, norm, output, quantized, pool);
}

void TfPofQuantize(const float* input, size_t count,
                   TfPofQuantization quantization, int8_t* output) {
  BestTransformerKernel().quantize(input, count, quantization, output);
}

void TfPofDequantize(const int8_t* input, size_t count,
                     TfPofQuantization quantization, float* output) {
  BestTransformerKernel().dequantize(input, count, quantization, output);
}
