#include "transformer.h"

#include <math.h>

#include "buffer.h"
#include "transformer_kernel.h"

using tf_pof::CeilDiv;
using tf_pof::ChosenTransformerKernel;
using tf_pof::kCacheLine;
using tf_pof::Min;
using tf_pof::NormTask;
using tf_pof::TransformerKernel;

namespace {

using tf_pof::IsValid;

int chosen_isa = static_cast<int>(tf_pof::kBestIsa);

// A task has about this many values, so that a token alone is not one,
constexpr int kNormValues = 4096;
// or the tokens that a task of fully-connected layers has, so that they stay
// with their thread.
constexpr int kBlockTokens = 16;

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

bool HasTables(const NormTask& task, int32_t tokens) {
  if (task.ids == nullptr || task.num_tables < 1 ||
      task.num_tables > tf_pof::kMaxTables || task.sequence < 1) {
    return false;
  }
  for (int32_t i = 0; i < task.num_tables; ++i) {
    const int32_t rows = task.tables[i].rows;
    const int32_t* ids = task.ids[i];
    if (rows < 1 || task.tables[i].table == nullptr ||
        !IsValid(task.tables[i].quantization)) {
      return false;
    }
    if (ids == nullptr) {
      if (Min(tokens, task.sequence) > rows) return false;
      continue;
    }
    for (int32_t t = 0; t < tokens; ++t) {
      if (ids[t] < 0 || ids[t] >= rows) return false;
    }
  }
  return true;
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
  if (task.tables != nullptr) return HasTables(task, tokens);
  if (task.x != nullptr) {
    return task.float_x == nullptr && IsValid(params->x);
  }
  return task.residual != nullptr || task.float_x != nullptr;
}

}  // namespace

namespace tf_pof {

bool IsValid(const TfPofQuantization& quantization) {
  return quantization.scale > 0.0f && isfinite(quantization.scale) &&
         isfinite(1.0f / quantization.scale) &&
         quantization.zero_point >= -128 && quantization.zero_point <= 127;
}

TfPofStatus RunNorm(const TransformerKernel& kernel, const NormTask& task,
                    int32_t tokens, void* workspace, size_t thread_bytes,
                    TfPofThreadPool* pool) {
  if (!::IsValid(task, tokens)) return kTfPofInvalidArgument;
  if (task.layouts.panels) {
    RunNormPanels(kernel, task, tokens, workspace, thread_bytes, pool);
    return kTfPofOk;
  }
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

const TransformerKernel& ChosenTransformerKernel() {
  const int isa = __atomic_load_n(&chosen_isa, __ATOMIC_RELAXED);
  return BestTransformerKernel(static_cast<Isa>(isa));
}

}  // namespace tf_pof

TfPofStatus TfPofTransformerIsa(const char* isa) {
  tf_pof::Isa found;
  if (!tf_pof::FindIsa(isa, &found)) return kTfPofInvalidArgument;
  __atomic_store_n(&chosen_isa, static_cast<int>(found), __ATOMIC_RELAXED);
  return kTfPofOk;
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
  return tf_pof::RunNorm(ChosenTransformerKernel(), task, tokens, nullptr, 0,
                         pool);
}

TfPofStatus TfPofEmbeddingsRun(const TfPofTable* tables,
                               const int32_t* const* ids, int32_t num_tables,
                               int32_t tokens, int32_t sequence,
                               const TfPofLayerNormParams* norm, float* output,
                               int8_t* quantized, TfPofThreadPool* pool) {
  if (tables == nullptr) return kTfPofInvalidArgument;
  NormTask task = {};
  task.params = norm;
  task.output = output;
  task.quantized = quantized;
  task.tables = tables;
  task.ids = ids;
  task.num_tables = num_tables;
  task.sequence = sequence;
  return tf_pof::RunNorm(ChosenTransformerKernel(), task, tokens, nullptr, 0,
                         pool);
}

void TfPofQuantize(const float* input, size_t count,
                   TfPofQuantization quantization, int8_t* output) {
  ChosenTransformerKernel().quantize(input, count, quantization, 0, output);
}

void TfPofDequantize(const int8_t* input, size_t count,
                     TfPofQuantization quantization, float* output) {
  ChosenTransformerKernel().dequantize(input, count, quantization, 0, output);
}
