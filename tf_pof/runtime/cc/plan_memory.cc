#include "kernel.h"
#include "plan.h"
#include "run_layers.h"

namespace tf_pof {
namespace {

// Which steps write and read what is in the arena.
void FindLifetimes(Plan* plan) {
  Value* values = plan->values.data;
  for (size_t i = 0; i < plan->values.size; ++i) {
    values[i].first = values[i].last = -1;
  }
  for (size_t i = 0; i < plan->steps.size; ++i) {
    const Step& step = plan->steps.data[i];
    const auto use = [&](int value) {
      if (value < 0) return;
      Value& storage = values[values[value].storage];
      if (storage.first < 0) storage.first = static_cast<int>(i);
      storage.last = static_cast<int>(i);
    };
    for (const int value : step.inputs) use(value);
    for (const int value : step.outputs) use(value);
  }
}

// Linear steps next to each other that have the same input and kernel.
void FindTogether(Plan* plan) {
  const Step* steps = plan->steps.data;
  int* together = plan->together.data;
  const auto kernel = [&](size_t i) {
    return TfPofFullyConnectedKernel(Get(plan->layers.data[i]));
  };
  size_t first = 0;
  for (size_t i = 0; i < plan->steps.size; ++i) {
    together[i] = 1;
    if (steps[i].kind != StepKind::kLinear) continue;
    if (i > first && steps[first].kind == StepKind::kLinear &&
        first + together[first] == i && together[first] < kMaxTogether &&
        steps[first].inputs[0] == steps[i].inputs[0] &&
        steps[first].linear.num_inputs == steps[i].linear.num_inputs &&
        plan->values.data[steps[i].outputs[0]].is_read &&
        plan->values.data[steps[first].outputs[0]].is_read &&
        strcmp(kernel(first), kernel(i)) == 0) {
      ++together[first];
      together[i] = 0;
    } else {
      first = i;
    }
  }
}

size_t RoundUp(size_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

void FindSizes(Plan* plan) {
  for (size_t i = 0; i < plan->steps.size; ++i) {
    const Step& step = plan->steps.data[i];
    for (const int index : step.outputs) {
      if (index < 0) continue;
      Value& value = plan->values.data[index];
      value.bytes = RoundUp(value.elements * value.type_size);
      if (value.layout == kTfPofPanels) {
        value.bytes = value.type_size *
                      TfPofPanelBytes(
                          static_cast<int32_t>(value.elements / value.channels),
                          value.channels);
      }
    }
  }
}

// A layer norm's floats take the place of those that it adds to, if nothing
// reads these afterwards: there is less to keep in the caches.
void TakePlaces(Plan* plan) {
  Value* values = plan->values.data;
  for (size_t i = 0; i < plan->values.size; ++i) {
    values[i].place = static_cast<int>(i);
  }
  for (size_t i = 0; i < plan->steps.size; ++i) {
    const Step& step = plan->steps.data[i];
    if (step.kind != StepKind::kLayerNorm || step.inputs[0] < 0 ||
        step.outputs[0] < 0) {
      continue;
    }
    const int from = values[step.inputs[0]].storage;
    Value& to = values[step.outputs[0]];
    if (!plan->InArena(from) || !plan->InArena(step.outputs[0]) ||
        values[from].last != static_cast<int>(i) ||
        to.first != static_cast<int>(i) || values[from].layout != to.layout ||
        values[from].bytes != to.bytes || step.inputs[0] == step.inputs[2]) {
      continue;
    }
    to.place = values[from].place;
  }
  // Only what has a place of its own is placed, for as long as it is used.
  for (size_t i = 0; i < plan->values.size; ++i) {
    Value& owner = values[values[i].place];
    owner.last = Max(owner.last, values[i].last);
  }
}

void FindUse(Plan* plan) {
  Value* values = plan->values.data;
  for (size_t i = 0; i < plan->values.size; ++i) {
    values[i].use = ThreadUse::kOwn;
  }
  for (size_t i = 0; i < plan->steps.size; ++i) {
    const Step& step = plan->steps.data[i];
    if (step.kind != StepKind::kAttention) continue;
    for (int j = 0; j < 3; ++j) {
      values[values[step.inputs[j]].storage].use = ThreadUse::kReadByAll;
    }
    values[values[step.outputs[0]].storage].use = ThreadUse::kHeads;
  }
}

// Large values first, each at the lowest place that is free while it lives. On
// several threads those of one size and use have their own places: of these a
// thread always writes the same part, or lines would go from cache to cache.
bool PlaceValues(Plan* plan, int threads, size_t* total) {
  Value* values = plan->values.data;
  Buffer<int> order = {};  // placed ones, by offset
  Buffer<int> left = {};
  bool fine = true;
  for (size_t i = 0; fine && i < plan->values.size; ++i) {
    if (plan->InArena(static_cast<int>(i)) && values[i].first >= 0 &&
        values[i].place == static_cast<int>(i)) {
      fine = left.Append(static_cast<int>(i));
    }
  }
  *total = 0;
  for (size_t i = 0; fine && i < left.size; ++i) {
    size_t largest = i;
    for (size_t j = i + 1; j < left.size; ++j) {
      if (values[left.data[j]].bytes > values[left.data[largest]].bytes) {
        largest = j;
      }
    }
    const int index = left.data[largest];
    left.data[largest] = left.data[i];
    Value& value = values[index];
    size_t offset = 0, place = order.size;
    for (size_t j = 0; j < order.size; ++j) {
      const Value& other = values[order.data[j]];
      if ((other.last < value.first || value.last < other.first) &&
          (threads == 1 ||
           (other.bytes == value.bytes && other.use == value.use))) {
        continue;
      }
      if (offset + value.bytes <= other.offset) break;
      offset = Max(offset, other.offset + other.bytes);
    }
    value.offset = offset;
    *total = Max(*total, offset + value.bytes);
    while (place > 0 && values[order.data[place - 1]].offset > offset) --place;
    fine = order.Append(0);
    if (!fine) break;
    memmove(order.data + place + 1, order.data + place,
            (order.size - 1 - place) * sizeof(int));
    order.data[place] = index;
  }
  order.Free();
  left.Free();
  return fine;
}

size_t MostThreadBytes(const Plan& plan) {
  size_t most = 0;
  for (size_t i = 0; i < plan.steps.size; ++i) {
    const Step& step = plan.steps.data[i];
    if (step.kind == StepKind::kLinear) {
      const TfPofFullyConnected* layers[kMaxTogether];
      if (plan.together.data[i] == 0) continue;
      for (int j = 0; j < plan.together.data[i]; ++j) {
        layers[j] = Get(plan.layers.data[i + j]);
      }
      most = Max(most, ThreadBytes(layers, plan.together.data[i]));
    } else if (step.kind == StepKind::kAttention) {
      most = Max(most, AttentionThreadBytes(&step.attention.heads,
                                            step.attention.sequence,
                                            plan.LayoutOf(step.inputs[0])));
    } else if (step.kind == StepKind::kLayerNorm) {
      most = Max(most, NormThreadBytes(plan.NormLayoutsOf(step),
                                       step.layer_norm.norm.channels, false));
    } else if (step.kind == StepKind::kEmbeddings) {
      most =
          Max(most, NormThreadBytes(plan.NormLayoutsOf(step),
                                    step.embeddings.norm.norm.channels, true));
    }
  }
  return most;
}

}  // namespace

bool Plan::PlanMemory(int threads) {
  FindTogether(this);
  FindLifetimes(this);
  ChooseLayouts();
  FindSizes(this);
  TakePlaces(this);
  FindUse(this);
  if (!PlaceValues(this, threads, &workspace_offset)) return false;
  thread_bytes = MostThreadBytes(*this);
  const size_t bytes =
      workspace_offset + thread_bytes * Max(threads, 1) + 2 * kCacheLine;
  if (bytes <= memory_bytes) return true;
  free(memory);
  memory = static_cast<uint8_t*>(malloc(bytes));
  memory_bytes = memory == nullptr ? 0 : bytes;
  return memory != nullptr;
}

bool Plan::InArena(int value) const {
  const Value& v = values.data[value];
  return v.storage == value && !v.is_input && !v.is_output && v.is_read;
}

uint8_t* Plan::Arena() const {
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory);
  return memory + (kCacheLine - start % kCacheLine) % kCacheLine;
}

void* Plan::Data(const TfLiteContext* context, int value) const {
  if (value < 0) return nullptr;
  const Value& v = values.data[values.data[value].storage];
  if (v.is_input || v.is_output) return context->tensors[v.tensor].data.data;
  if (!v.is_read) return nullptr;
  return Arena() + values.data[v.place].offset;
}

}  // namespace tf_pof
