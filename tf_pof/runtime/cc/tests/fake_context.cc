// What a delegate calls, and what calls it.
#include <stdarg.h>

#include "tests/fake_tflite.h"
#include "tests/testing.h"

namespace tf_pof {
namespace {

// Of tensors that are computed; more is as good, but slow.
constexpr int64_t kMaxElements = 1 << 13;

FakeModel* ModelOf(const TfLiteContext* context) {
  return static_cast<FakeModel*>(context->impl_);
}

size_t TypeSize(int type) {
  switch (type) {
    case kTfLiteInt64:
    case kTfLiteFloat64:
      return 8;
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return 4;
    case kTfLiteInt16:
    case kTfLiteFloat16:
      return 2;
    default:
      return 1;
  }
}

void ReportError(TfLiteContext* context, const char* format, ...) {
  FakeModel* model = ModelOf(context);
  va_list values;
  va_start(values, format);
  vsnprintf(model->error, sizeof(model->error), format, values);
  va_end(values);
}

TfLiteStatus GetExecutionPlan(TfLiteContext* context, TfLiteIntArray** plan) {
  *plan = ModelOf(context)->plan;
  return kTfLiteOk;
}

TfLiteStatus GetNode(TfLiteContext* context, int index, TfLiteNode** node,
                     TfLiteRegistration** registration) {
  FakeModel* model = ModelOf(context);
  if (index < 0 || index >= model->num_nodes) return kTfLiteError;
  *node = &model->nodes[index].node;
  *registration = &model->nodes[index].registration;
  return kTfLiteOk;
}

// Elements of a shape, or -1 for too many or none at all.
int64_t Count(const TfLiteIntArray* dims) {
  if (dims == nullptr) return -1;
  int64_t count = 1;
  for (int i = 0; i < dims->size; ++i) {
    if (dims->data[i] < 0) return -1;
    count *= dims->data[i];
    if (count > kMaxElements) return -1;
  }
  return count;
}

TfLiteStatus ResizeTensor(TfLiteContext*, TfLiteTensor* tensor,
                          TfLiteIntArray* dims) {
  if (Count(dims) < 0) {
    free(dims);
    return kTfLiteError;
  }
  free(tensor->dims);
  tensor->dims = dims;
  return kTfLiteOk;
}

TfLiteStatus Preview(TfLiteContext* context, const TfLiteIntArray* nodes,
                     TfLiteDelegateParams** partitions, int* count) {
  FakeModel* model = ModelOf(context);
  model->FreePreview();
  Buffer<FakeSubset> subsets = {};
  FindSubsets(*model, *nodes, &subsets);
  for (size_t i = 0; i < subsets.size; ++i) {
    FakeSubset& subset = subsets.data[i];
    if (subset.wanted) {
      CHECK(model->preview.Append(subset.params), "no memory");
    } else {
      FreeParams(&subset.params);
    }
  }
  subsets.Free();
  *partitions = model->preview.data;
  *count = static_cast<int>(model->preview.size);
  return kTfLiteOk;
}

TfLiteStatus Replace(TfLiteContext* context, TfLiteRegistration registration,
                     const TfLiteIntArray* nodes, TfLiteDelegate* delegate) {
  FakeModel* model = ModelOf(context);
  Buffer<FakeSubset> subsets = {};
  FindSubsets(*model, *nodes, &subsets);
  Buffer<int> plan = {};
  for (size_t i = 0; i < subsets.size; ++i) {
    TfLiteDelegateParams& params = subsets.data[i].params;
    if (!subsets.data[i].wanted) {
      for (int j = 0; j < params.nodes_to_replace->size; ++j) {
        CHECK(plan.Append(params.nodes_to_replace->data[j]), "no memory");
      }
      FreeParams(&params);
      continue;
    }
    FakeModel::Entry* entry = model->AddNode();
    CHECK(plan.Append(model->num_nodes - 1), "no memory");
    params.delegate = delegate;
    entry->params = params;
    entry->registration = registration;
    const auto& array = *params.input_tensors;
    entry->node.inputs = NewIntArray(array.data, array.size);
    const auto& outputs = *params.output_tensors;
    entry->node.outputs = NewIntArray(outputs.data, outputs.size);
    entry->node.delegate = delegate;
    entry->node.user_data = registration.init(
        context, reinterpret_cast<const char*>(&entry->params), 0);
  }
  subsets.Free();
  free(model->plan);
  model->plan = NewIntArray(plan.data, plan.size);
  plan.Free();
  return kTfLiteOk;
}

}  // namespace

void FakeModel::SetFunctions() {
  context.impl_ = this;
  context.ReportError = ReportError;
  context.GetExecutionPlan = GetExecutionPlan;
  context.GetNodeAndRegistration = GetNode;
  context.ResizeTensor = ResizeTensor;
  context.PreviewDelegatePartitioning = Preview;
  context.ReplaceNodeSubsetsWithDelegateKernels = Replace;
}

void FakeModel::FreePreview() {
  for (size_t i = 0; i < preview.size; ++i) {
    FreeParams(&preview.data[i]);
  }
  preview.Free();
}

TfLiteStatus FakeModel::Apply(TfLiteDelegate* delegate) {
  return delegate->Prepare(&context, delegate);
}

TfLiteStatus FakeModel::Allocate() {
  for (int i = 0; i < plan->size; ++i) {
    Entry& entry = nodes[plan->data[i]];
    if (entry.node.delegate != nullptr &&
        entry.registration.prepare(&context, &entry.node) != kTfLiteOk) {
      return kTfLiteError;
    }
  }
  // What no node of the plan has to do with gets no memory.
  Buffer<bool> used = {};
  CHECK(used.Resize(records.size), "no memory");
  for (int i = 0; i < plan->size; ++i) {
    const TfLiteNode& node = nodes[plan->data[i]].node;
    for (const TfLiteIntArray* tensors : {node.inputs, node.outputs}) {
      for (int j = 0; j < tensors->size; ++j) {
        const int tensor = tensors->data[j];
        if (tensor >= 0 && tensor < static_cast<int>(used.size)) {
          used.data[tensor] = true;
        }
      }
    }
  }
  TfLiteStatus status = kTfLiteOk;
  for (size_t i = 0; i < records.size; ++i) {
    TfLiteTensor* tensor = &context.tensors[i];
    if (!used.data[i] || tensor->allocation_type == kTfLiteMmapRo) continue;
    const int64_t count = Count(tensor->dims);
    if (count < 0) {
      status = kTfLiteError;
      continue;
    }
    SetData(static_cast<int>(i), count * TypeSize(tensor->type));
  }
  used.Free();
  return status;
}

TfLiteStatus FakeModel::Invoke() {
  for (int i = 0; i < plan->size; ++i) {
    Entry& entry = nodes[plan->data[i]];
    if (entry.node.delegate != nullptr &&
        entry.registration.invoke(&context, &entry.node) != kTfLiteOk) {
      return kTfLiteError;
    }
  }
  return kTfLiteOk;
}

int FakeModel::NumDelegated() const {
  int count = 0;
  for (int i = 0; i < plan->size; ++i) {
    count += nodes[plan->data[i]].node.delegate != nullptr;
  }
  return count;
}

}  // namespace tf_pof
