#include "delegate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "delegate_options.h"
#include "delegate_report.h"
#include "match.h"
#include "plan.h"
#include "profile.h"

namespace tf_pof {
namespace {

struct Delegate {
  TfLiteDelegate base;  // first: TFLite knows this part alone
  DelegateOptions options;
  TfPofThreadPool* pool;          // null for one thread
  pthread_mutex_t mutex;          // held while a model is prepared
  const Match* match;             // of that model
  pthread_mutex_t profile_mutex;  // guards the next
  struct Partition* profiled;     // with the option `profile`, or null
};

// A node of a model that stands for the nodes of a partition.
struct Partition {
  Delegate* delegate;
  Plan plan;
  // Of a living delegate with the option `profile`, else null.
  const TfLiteContext* context;
  Partition* next;
};

// Puts the partition in the delegate's list.
void Profile(const TfLiteContext* context, Partition* partition) {
  Delegate* delegate = partition->delegate;
  partition->context = context;
  pthread_mutex_lock(&delegate->profile_mutex);
  partition->next = delegate->profiled;
  delegate->profiled = partition;
  pthread_mutex_unlock(&delegate->profile_mutex);
}

// Takes the partition out of the list.
void EndProfile(Partition* partition) {
  Delegate* delegate = partition->delegate;
  pthread_mutex_lock(&delegate->profile_mutex);
  Partition** link = &delegate->profiled;
  while (*link != nullptr && *link != partition) link = &(*link)->next;
  if (*link != nullptr) *link = partition->next;
  pthread_mutex_unlock(&delegate->profile_mutex);
  PrintProfile(&partition->plan);
}

void FreeKernel(TfLiteContext*, void* data) {
  auto* partition = static_cast<Partition*>(data);
  if (partition == nullptr) return;
  if (partition->context != nullptr) EndProfile(partition);
  partition->plan.Free();
  free(partition);
}

void* InitKernel(TfLiteContext* context, const char* buffer, size_t) {
  const auto& params = *reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  auto* delegate = static_cast<Delegate*>(params.delegate->data_);
  auto* partition = static_cast<Partition*>(calloc(1, sizeof(Partition)));
  if (partition == nullptr || delegate->match == nullptr) {
    free(partition);
    return nullptr;
  }
  partition->delegate = delegate;
  if (!partition->plan.Build(context, *delegate->match, params)) {
    FreeKernel(context, partition);
    return nullptr;
  }
  if (partition->delegate->options.profile) Profile(context, partition);
  return partition;
}

TfLiteStatus PrepareKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) return kTfLiteError;
  return partition->plan.Prepare(context, partition->delegate->options,
                                 partition->delegate->pool);
}

TfLiteStatus InvokeKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  return partition->plan.Invoke(context, partition->delegate->pool);
}

// The nodes of claimed steps, as a TfLiteIntArray.
bool ListClaimed(const Match& match, Buffer<int>* list) {
  if (!list->Resize(1)) return false;
  for (size_t i = 0; i < match.graph->nodes.size; ++i) {
    if (match.ClaimedStep(static_cast<int>(i)) != nullptr &&
        !list->Append(match.graph->nodes.data[i].index)) {
      return false;
    }
  }
  list->data[0] = static_cast<int>(list->size) - 1;
  return true;
}

const TfLiteIntArray* AsIntArray(const Buffer<int>& list) {
  return reinterpret_cast<const TfLiteIntArray*>(list.data);
}

// Drops steps whose nodes TFLite would put into more than one partition, until
// there are none. False after an error.
bool DropSplitSteps(TfLiteContext* context, Match* match, int* partitions) {
  const Graph& graph = *match->graph;
  Buffer<int> list = {};
  Buffer<int> part_of_node = {};  // by TFLite's number
  Buffer<int> part_of_step = {};
  int highest = 0;
  for (size_t i = 0; i < graph.nodes.size; ++i) {
    highest = Max(highest, graph.nodes.data[i].index);
  }
  bool fine = part_of_node.Resize(highest + 1) &&
              part_of_step.Resize(match->steps.size);
  for (bool again = fine; again;) {
    again = false;
    list.size = 0;
    TfLiteDelegateParams* parts = nullptr;
    *partitions = 0;
    fine = ListClaimed(*match, &list) &&
           (list.size == 1 ||
            context->PreviewDelegatePartitioning(
                context, AsIntArray(list), &parts, partitions) == kTfLiteOk);
    if (!fine) break;
    for (int i = 0; i < *partitions; ++i) {
      const TfLiteIntArray& nodes = *parts[i].nodes_to_replace;
      for (int j = 0; j < nodes.size; ++j) {
        part_of_node.data[nodes.data[j]] = i;
      }
    }
    for (size_t i = 0; i < part_of_step.size; ++i) part_of_step.data[i] = -1;
    for (size_t i = 0; i < graph.nodes.size; ++i) {
      const int step = match->step_of.data[i];
      if (match->ClaimedStep(static_cast<int>(i)) == nullptr) continue;
      const int part = part_of_node.data[graph.nodes.data[i].index];
      int& first = part_of_step.data[step];
      if (first < 0) first = part;
      if (first != part) {
        match->steps.data[step].claimed = false;
        again = true;
      }
    }
    if (again) fine = match->ClaimLinks();
    again &= fine;
  }
  list.Free();
  part_of_node.Free();
  part_of_step.Free();
  return fine;
}

// Packed weights that something else reads cannot run at all.
bool RunsAllPacked(TfLiteContext* context, const Match& match) {
  for (size_t i = 0; i < match.graph->nodes.size; ++i) {
    const int step = match.step_of.data[i];
    if (step < 0 || match.steps.data[step].kind != StepKind::kUnpacked ||
        match.steps.data[step].claimed) {
      continue;
    }
    const int weights = match.graph->Output(static_cast<int>(i), 0);
    const char* name =
        weights < 0 ? nullptr : match.graph->tensor(weights)->name;
    context->ReportError(context,
                         "tf_pof: packed weights %s are read by a node that "
                         "the delegate does not know; export the model with "
                         "dense weights.",
                         name == nullptr ? "" : name);
    return false;
  }
  return true;
}

TfLiteStatus Replace(TfLiteContext* context, Delegate* delegate,
                     const Match& match) {
  Buffer<int> list = {};
  TfLiteStatus status = kTfLiteError;
  if (ListClaimed(match, &list)) {
    TfLiteRegistration registration = {};
    registration.init = InitKernel;
    registration.free = FreeKernel;
    registration.prepare = PrepareKernel;
    registration.invoke = InvokeKernel;
    registration.builtin_code = kTfLiteBuiltinDelegate;
    registration.custom_name = "TfPofDelegate";
    registration.version = 1;
    delegate->match = &match;
    status = list.size == 1 ? kTfLiteOk
                            : context->ReplaceNodeSubsetsWithDelegateKernels(
                                  context, registration, AsIntArray(list),
                                  &delegate->base);
    delegate->match = nullptr;
  }
  list.Free();
  return status;
}

TfLiteStatus PrepareMatched(TfLiteContext* context, Delegate* delegate,
                            const Graph& graph, Match* match) {
  int partitions = 0;
  const DelegateOptions& options = delegate->options;
  if (!match->Find(graph) || !match->Claim(options) ||
      !DropSplitSteps(context, match, &partitions)) {
    context->ReportError(context, "tf_pof: memory ran out.");
    return kTfLiteError;
  }
  if (options.verbose || options.dry_run) {
    ReportMatch(*match, options, partitions);
  }
  if (!RunsAllPacked(context, *match)) return kTfLiteError;
  return options.dry_run ? kTfLiteOk : Replace(context, delegate, *match);
}

// Called for each subgraph of a model.
TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* base) {
  auto* delegate = static_cast<Delegate*>(base->data_);
  Graph graph = {};
  Match match = {};
  pthread_mutex_lock(&delegate->mutex);
  const TfLiteStatus status =
      graph.Open(context) ? PrepareMatched(context, delegate, graph, &match)
                          : kTfLiteError;
  pthread_mutex_unlock(&delegate->mutex);
  match.Free();
  graph.Free();
  return status;
}

}  // namespace
}  // namespace tf_pof

TfLiteDelegate* TfPofDelegateCreate(const char* const* keys,
                                    const char* const* values,
                                    size_t num_options,
                                    void (*report_error)(const char*)) {
  using tf_pof::Delegate;
  tf_pof::DelegateOptions options;
  char error[tf_pof::kMaxOptionError] =
      "tf_pof: threads or memory for the delegate ran out.";
  Delegate* delegate = nullptr;
  if (tf_pof::ParseOptions(keys, values, num_options, &options, error)) {
    delegate = static_cast<Delegate*>(calloc(1, sizeof(Delegate)));
  }
  if (delegate != nullptr && options.threads > 1) {
    delegate->pool = TfPofThreadPoolCreate(options.threads);
    if (delegate->pool == nullptr) {
      free(delegate);
      delegate = nullptr;
    }
  }
  if (delegate == nullptr) {
    if (report_error != nullptr) report_error(error);
    return nullptr;
  }
  delegate->options = options;
  pthread_mutex_init(&delegate->mutex, nullptr);
  pthread_mutex_init(&delegate->profile_mutex, nullptr);
  delegate->base.data_ = delegate;
  delegate->base.Prepare = tf_pof::PrepareDelegate;
  delegate->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return &delegate->base;
}

void TfPofDelegateDelete(TfLiteDelegate* base) {
  if (base == nullptr) return;
  auto* delegate = static_cast<tf_pof::Delegate*>(base->data_);
  // Of interpreters that live on: Python's deletes the delegate first while
  // somebody holds a runner of it.
  for (tf_pof::Partition* partition = delegate->profiled; partition != nullptr;
       partition = partition->next) {
    tf_pof::PrintProfile(&partition->plan);
    partition->context = nullptr;
  }
  TfPofThreadPoolDelete(delegate->pool);
  pthread_mutex_destroy(&delegate->mutex);
  pthread_mutex_destroy(&delegate->profile_mutex);
  free(delegate);
}

void TfPofDelegateProfile(TfLiteDelegate* base,
                          void (*visitor)(void* context,
                                          const TfPofProfileStep* step),
                          void* context) {
  auto* delegate = static_cast<tf_pof::Delegate*>(base->data_);
  tf_pof::Buffer<tf_pof::ProfileRow> rows = {};
  pthread_mutex_lock(&delegate->profile_mutex);
  for (tf_pof::Partition* partition = delegate->profiled; partition != nullptr;
       partition = partition->next) {
    tf_pof::TakeProfile(partition->context, &partition->plan, &rows);
  }
  for (size_t i = 0; i < rows.size; ++i) {
    const tf_pof::ProfileRow& row = rows.data[i];
    const TfPofProfileStep step = {row.kind, row.name, row.detail, row.calls,
                                   row.nanoseconds};
    visitor(context, &step);
  }
  pthread_mutex_unlock(&delegate->profile_mutex);
  rows.Free();
}

TfLiteDelegate* tflite_plugin_create_delegate(
    const char* const* keys, const char* const* values, size_t num_options,
    void (*report_error)(const char*)) {
  return TfPofDelegateCreate(keys, values, num_options, report_error);
}

void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  TfPofDelegateDelete(delegate);
}
