#include "profile.h"

#include <stdio.h>

#include "delegate_report.h"

namespace tf_pof {
namespace {

// In the order of AttentionTicks.
constexpr const char* kPhases[] = {"attention, packing", "attention, scores",
                                   "attention, softmax and values"};
constexpr int kNumPhases = sizeof(kPhases) / sizeof(kPhases[0]);

ProfileRow MakeRow(const char* kind, const StepTime& time) {
  ProfileRow row = {};
  snprintf(row.kind, sizeof(row.kind), "%s", kind);
  row.name = "";
  row.steps = 1;
  row.calls = time.calls;
  row.nanoseconds = time.nanoseconds;
  return row;
}

// A row for each phase of attention, whose ticks tell its share.
bool AddAttention(const AttentionParams& attention, const StepTime& time,
                  Buffer<ProfileRow>* rows) {
  const AttentionTicks& ticks = time.ticks;
  const int64_t phases[kNumPhases] = {ticks.packing, ticks.scores,
                                      ticks.values};
  const double all =
      static_cast<double>(ticks.packing + ticks.scores + ticks.values);
  for (int i = 0; i < kNumPhases; ++i) {
    ProfileRow row = MakeRow(kPhases[i], time);
    snprintf(row.detail, sizeof(row.detail), "%d heads of %d, sequence %d",
             attention.heads.num_heads, attention.heads.head_size,
             attention.sequence);
    const double share = all > 0 ? static_cast<double>(phases[i]) / all : 0;
    row.nanoseconds =
        static_cast<int64_t>(static_cast<double>(time.nanoseconds) * share);
    if (!rows->Append(row)) return false;
  }
  return true;
}

bool AddStep(const TfLiteContext* context, const Step& step,
             const CachedLayer* layer, const StepTime& time,
             Buffer<ProfileRow>* rows) {
  if (step.kind == StepKind::kAttention) {
    return AddAttention(step.attention, time, rows);
  }
  ProfileRow row = MakeRow(StepName(step.kind), time);
  if (step.kind == StepKind::kLinear) {
    snprintf(row.detail, sizeof(row.detail), "%d x %d, %s",
             step.linear.num_outputs, step.linear.num_inputs,
             TfPofFullyConnectedKernel(Get(layer)));
    const char* name = context == nullptr
                           ? nullptr
                           : context->tensors[step.linear.weights].name;
    if (name != nullptr) row.name = name;
  }
  return rows->Append(row);
}

// Adds rows of one kind and detail to the first of them.
void Join(Buffer<ProfileRow>* rows) {
  size_t kept = 0;
  for (size_t i = 0; i < rows->size; ++i) {
    const ProfileRow& row = rows->data[i];
    size_t same = 0;
    while (same < kept && (strcmp(rows->data[same].kind, row.kind) != 0 ||
                           strcmp(rows->data[same].detail, row.detail) != 0)) {
      ++same;
    }
    if (same < kept) {
      rows->data[same].steps += row.steps;
      rows->data[same].calls += row.calls;
      rows->data[same].nanoseconds += row.nanoseconds;
    } else {
      rows->data[kept++] = row;
    }
  }
  rows->size = kept;
}

}  // namespace

bool TakeProfile(const TfLiteContext* context, Plan* plan,
                 Buffer<ProfileRow>* rows) {
  StepTime waiting = {};
  for (size_t i = 0; i < plan->times.size; ++i) {
    StepTime& time = plan->times.data[i];
    if (time.calls == 0) continue;
    waiting.calls = Max(waiting.calls, time.calls);
    waiting.nanoseconds += time.waiting;
    time.nanoseconds -= time.waiting;
    if (!AddStep(context, plan->steps.data[i], plan->layers.data[i], time,
                 rows)) {
      return false;
    }
    time = {};
  }
  return waiting.nanoseconds == 0 ||
         rows->Append(MakeRow("waiting for threads", waiting));
}

void PrintProfile(Plan* plan) {
  Buffer<ProfileRow> rows = {};
  if (TakeProfile(nullptr, plan, &rows) && rows.size > 0) {
    Join(&rows);
    double all = 0;
    int64_t calls = 0;
    for (size_t i = 0; i < rows.size; ++i) {
      all += static_cast<double>(rows.data[i].nanoseconds);
      calls = Max(calls, rows.data[i].calls / rows.data[i].steps);
    }
    fprintf(stderr, "tf_pof: %lld calls of %.1f us each:\n",
            static_cast<long long>(calls),
            1e-3 * all / static_cast<double>(calls));
    for (size_t i = 0; i < rows.size; ++i) {
      const ProfileRow& row = rows.data[i];
      const double time = static_cast<double>(row.nanoseconds);
      fprintf(stderr, "tf_pof: %9.1f us %5.1f %% %3lld x %s%s%s\n",
              1e-3 * time / static_cast<double>(calls), 100 * time / all,
              static_cast<long long>(row.steps), row.kind,
              row.detail[0] == '\0' ? "" : ", ", row.detail);
    }
  }
  rows.Free();
}

}  // namespace tf_pof
