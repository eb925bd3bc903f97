#include "plan.h"

namespace tf_pof {
namespace {

int TypeSize(const TfLiteTensor& tensor) {
  return tensor.type == kTfLiteInt8 ? 1 : 4;
}

struct Builder {
  TfLiteContext* context;
  Plan* plan;
  Buffer<int> value_of;  // [tensors], -1 for none
  Buffer<bool> taken;    // [steps of the match]
  Buffer<bool> made;     // [values]

  void Free() {
    value_of.Free();
    taken.Free();
    made.Free();
  }

  bool AddValue(int tensor, int* value) {
    *value = -1;
    if (tensor < 0) return true;
    int& found = value_of.data[tensor];
    if (found < 0) {
      Value fresh = {};
      fresh.tensor = tensor;
      fresh.storage = static_cast<int>(plan->values.size);
      fresh.type_size = TypeSize(context->tensors[tensor]);
      if (!plan->values.Append(fresh)) return false;
      found = fresh.storage;
    }
    *value = found;
    return true;
  }

  // Appends the step with values in the place of tensors.
  bool AddStep(const Step& step) {
    Step copy = step;
    for (int& tensor : copy.inputs) {
      if (!AddValue(tensor, &tensor)) return false;
    }
    for (int& tensor : copy.outputs) {
      if (!AddValue(tensor, &tensor)) return false;
    }
    return plan->steps.Append(copy);
  }

  bool TakeSteps(const Match& match, const TfLiteIntArray& nodes) {
    const Graph& graph = *match.graph;
    if (!value_of.Resize(context->tensors_size) ||
        !taken.Resize(match.steps.size)) {
      return false;
    }
    for (size_t i = 0; i < value_of.size; ++i) value_of.data[i] = -1;
    Buffer<bool> here = {};
    int highest = 0;
    for (size_t i = 0; i < graph.nodes.size; ++i) {
      highest = Max(highest, graph.nodes.data[i].index);
    }
    bool fine = here.Resize(highest + 1);
    for (int i = 0; fine && i < nodes.size; ++i) {
      fine = nodes.data[i] >= 0 && nodes.data[i] <= highest;
      if (fine) here.data[nodes.data[i]] = true;
    }
    for (size_t i = 0; fine && i < graph.nodes.size; ++i) {
      if (!here.data[graph.nodes.data[i].index]) continue;
      const Step* step = match.ClaimedStep(static_cast<int>(i));
      fine = step != nullptr;
      if (!fine || taken.data[step - match.steps.data]) continue;
      taken.data[step - match.steps.data] = true;
      if (step->kind != StepKind::kUnpacked) fine = AddStep(*step);
    }
    here.Free();
    return fine;
  }

  bool IsMade(int value) const { return value < 0 || made.data[value]; }

  // Puts steps behind those that make what they read. Nodes are in such an
  // order already, but a step is several nodes: a few passes do.
  bool Sort() {
    Buffer<Step>& steps = plan->steps;
    if (!made.Resize(plan->values.size)) return false;
    for (size_t i = 0; i < made.size; ++i) made.data[i] = true;
    for (size_t i = 0; i < steps.size; ++i) {
      for (const int value : steps.data[i].outputs) {
        if (value < 0) continue;
        if (!made.data[value]) return false;  // by two steps
        made.data[value] = false;
      }
    }
    for (size_t i = 0; i < made.size; ++i) {
      plan->values.data[i].is_input = made.data[i];
    }
    size_t sorted = 0;
    for (bool more = true; more && sorted < steps.size;) {
      more = false;
      for (size_t i = sorted; i < steps.size; ++i) {
        const Step step = steps.data[i];
        bool ready = true;
        for (const int value : step.inputs) ready &= IsMade(value);
        if (!ready) continue;
        for (const int value : step.outputs) {
          if (value >= 0) made.data[value] = true;
        }
        // The order of the others stays.
        memmove(static_cast<void*>(steps.data + sorted + 1),
                steps.data + sorted, (i - sorted) * sizeof(Step));
        steps.data[sorted++] = step;
        more = true;
      }
    }
    return sorted == steps.size;
  }

  // Linear steps that read the same input follow each other: then they can run
  // together.
  void BringTogether() {
    Step* steps = plan->steps.data;
    for (size_t i = 0; i < plan->steps.size; ++i) {
      size_t next = i + 1;
      if (steps[i].kind != StepKind::kLinear) continue;
      for (size_t j = next; j < plan->steps.size; ++j) {
        if (steps[j].kind != StepKind::kLinear ||
            steps[j].inputs[0] != steps[i].inputs[0]) {
          continue;
        }
        const Step step = steps[j];
        memmove(static_cast<void*>(steps + next + 1), steps + next,
                (j - next) * sizeof(Step));
        steps[next++] = step;
      }
      i = next - 1;
    }
  }

  bool FindOutputs(const Match& match, const TfLiteIntArray& tensors) {
    for (int i = 0; i < tensors.size; ++i) {
      const int tensor = tensors.data[i];
      if (tensor < 0 || tensor >= static_cast<int>(value_of.size)) return false;
      const int value = value_of.data[tensor];
      if (value >= 0 && !plan->values.data[value].is_input) {
        plan->values.data[value].is_output = true;
        plan->values.data[value].is_read = true;
        continue;
      }
      const Step* maker = match.StepThatMakes(tensor);
      if (maker == nullptr || maker->kind != StepKind::kUnpacked ||
          !plan->unread_weights.Append(tensor)) {
        return false;
      }
    }
    return true;
  }

  // Values that are views of each other share the memory of the input among
  // them, else of an output, else the arena's.
  void ShareStorage() {
    Value* values = plan->values.data;
    const Step* steps = plan->steps.data;
    for (size_t i = plan->steps.size; i-- > 0;) {
      if (steps[i].kind == StepKind::kView) {
        Value& input = values[steps[i].inputs[0]];
        input.is_read |= values[steps[i].outputs[0]].is_read;
        continue;
      }
      for (const int value : steps[i].inputs) {
        if (value >= 0) values[value].is_read = true;
      }
    }
    for (size_t i = 0; i < plan->steps.size; ++i) {
      if (steps[i].kind != StepKind::kView) continue;
      const int input = steps[i].inputs[0], output = steps[i].outputs[0];
      values[output].storage = values[input].storage;
      Value& root = values[values[output].storage];
      if (root.is_input || root.is_output || !values[output].is_output)
        continue;
      // The first output takes the place of the root.
      const int old = values[output].storage;
      for (size_t j = 0; j < plan->values.size; ++j) {
        if (values[j].storage == old) values[j].storage = output;
      }
    }
  }
};

}  // namespace

bool Plan::Build(TfLiteContext* context, const Match& match,
                 const TfLiteDelegateParams& params) {
  Builder builder = {context, this, {}, {}, {}};
  const bool built = builder.TakeSteps(match, *params.nodes_to_replace) &&
                     builder.Sort() && layers.Resize(steps.size) &&
                     together.Resize(steps.size) &&
                     builder.FindOutputs(match, *params.output_tensors);
  if (built) {
    builder.BringTogether();
    builder.ShareStorage();
  } else {
    context->ReportError(context,
                         "tf_pof: the model's nodes cannot be put together, "
                         "or memory ran out.");
  }
  builder.Free();
  return built;
}

void Plan::Free() {
  for (size_t i = 0; i < layers.size; ++i) ReleaseLayer(layers.data[i]);
  layers.Free();
  together.Free();
  times.Free();
  steps.Free();
  values.Free();
  unread_weights.Free();
  free(memory);
  memory = nullptr;
}

}  // namespace tf_pof
