// Which values are panels, so that as few as possible are converted: linear
// layers take and give both layouts, but convert what is not their kernel's.
#include "kernel.h"
#include "plan.h"

namespace tf_pof {
namespace {

// What a step sees a value as.
constexpr int kAnyChannels = -1;
constexpr int kOnlyRows = 0;

struct Chooser {
  Plan* plan;
  // All layer norms and embeddings work on panels: they share floats.
  bool norms;

  Value& At(int value) const {
    return plan->values.data[plan->values.data[value].storage];
  }
  const Step& StepAt(size_t i) const { return plan->steps.data[i]; }

  bool KernelHasPanels(size_t step) const {
    const char* name = TfPofFullyConnectedKernel(Get(plan->layers.data[step]));
    for (int i = 0; i < kNumKernels; ++i) {
      if (strcmp(kKernels[i].name, name) == 0) {
        return kKernels[i].layout == kTfPofPanels;
      }
    }
    return false;
  }

  static bool IsNorm(const Step& step) {
    return step.kind == StepKind::kLayerNorm ||
           step.kind == StepKind::kEmbeddings;
  }

  // Channels that the step sees input or output `i` with.
  int Channels(const Step& step, bool output, int i) const {
    switch (step.kind) {
      case StepKind::kLinear:
        return output ? step.linear.num_outputs : step.linear.num_inputs;
      case StepKind::kAttention:
        return i == 3 ? kOnlyRows
                      : step.attention.heads.num_heads *
                            step.attention.heads.head_size;
      case StepKind::kLayerNorm:
        return step.layer_norm.norm.channels;
      case StepKind::kEmbeddings:
        return output ? step.embeddings.norm.norm.channels : kOnlyRows;
      case StepKind::kToken:
        return output ? kOnlyRows : step.token.channels;
      case StepKind::kQuantize:
      case StepKind::kDequantize:
        return kAnyChannels;
      case StepKind::kView: {
        // An output that is not in the arena is a copy of rows.
        const Value& to = plan->values.data[step.outputs[0]];
        return to.is_output && to.storage != step.outputs[0] ? kOnlyRows
                                                             : kAnyChannels;
      }
      case StepKind::kMask:
      case StepKind::kUnpacked:
        return kOnlyRows;
    }
    return kOnlyRows;
  }

  // Calls function(value, output, i) for the values of a step.
  template <typename Function>
  static void ForValues(const Step& step, const Function& function) {
    for (int i = 0; i < Step::kMaxInputs; ++i) {
      if (step.inputs[i] >= 0) function(step.inputs[i], false, i);
    }
    for (int i = 0; i < Step::kMaxOutputs; ++i) {
      if (step.outputs[i] >= 0) function(step.outputs[i], true, i);
    }
  }

  // Finds the channels of what may be panels: kOnlyRows for all others.
  void FindChannels() const {
    for (size_t i = 0; i < plan->values.size; ++i) {
      Value& value = plan->values.data[i];
      value.layout = kTfPofRows;
      value.channels =
          plan->InArena(static_cast<int>(i)) ? kAnyChannels : kOnlyRows;
    }
    for (size_t s = 0; s < plan->steps.size; ++s) {
      const Step& step = StepAt(s);
      ForValues(step, [&](int index, bool output, int i) {
        Value& value = At(index);
        const int channels = Channels(step, output, i);
        if (channels == kAnyChannels) return;
        if (value.channels == kAnyChannels) value.channels = channels;
        if (value.channels != channels || channels == kOnlyRows ||
            value.elements % channels != 0) {
          value.channels = kOnlyRows;
        }
      });
    }
  }

  // How much rather panels than rows the linear steps that share int8 values
  // with this one would have: channels that they need not convert.
  int64_t Wish(const Step& step) const {
    int64_t wish = 0;
    ForValues(step, [&](int index, bool, int) {
      const Value& value = At(index);
      if (value.channels <= 0 || value.type_size != 1) return;
      for (size_t s = 0; s < plan->steps.size; ++s) {
        const Step& other = StepAt(s);
        if (other.kind != StepKind::kLinear) continue;
        if (&At(other.inputs[0]) != &value && &At(other.outputs[0]) != &value) {
          continue;
        }
        wish += KernelHasPanels(s) ? value.channels : -value.channels;
      }
    });
    return wish;
  }

  // Layer norms and attention have their layout; values that only linear steps
  // see have panels if all kernels do.
  void Choose() {
    int64_t wish = 0;
    for (size_t s = 0; s < plan->steps.size; ++s) {
      if (IsNorm(StepAt(s))) wish += Wish(StepAt(s));
    }
    norms = wish > 0;
    for (size_t s = 0; s < plan->steps.size; ++s) {
      const Step& step = StepAt(s);
      if (step.kind != StepKind::kLinear || !KernelHasPanels(s)) continue;
      if (At(step.inputs[0]).channels > 0) Set(step.inputs[0], kTfPofPanels);
      if (At(step.outputs[0]).channels > 0) Set(step.outputs[0], kTfPofPanels);
    }
    for (size_t s = 0; s < plan->steps.size; ++s) {
      const Step& step = StepAt(s);
      if (step.kind != StepKind::kLinear || KernelHasPanels(s)) continue;
      Set(step.inputs[0], kTfPofRows);
      Set(step.outputs[0], kTfPofRows);
    }
    for (size_t s = 0; s < plan->steps.size; ++s) {
      const Step& step = StepAt(s);
      const bool attention = step.kind == StepKind::kAttention;
      if (!attention && !IsNorm(step)) continue;
      const bool panels = attention ? Wish(step) > 0 : norms;
      ForValues(step, [&](int index, bool, int) {
        Set(index,
            panels && At(index).channels > 0 ? kTfPofPanels : kTfPofRows);
      });
    }
    while (MakeRows()) continue;
  }

  void Set(int value, TfPofLayout layout) const { At(value).layout = layout; }

  // False if all of these have one layout, else makes them rows.
  template <typename... Values>
  bool Differ(Values... values) const {
    const bool all = (... && (At(values).layout == kTfPofPanels));
    const bool any = (... || (At(values).layout == kTfPofPanels));
    if (all || !any) return false;
    (..., Set(values, kTfPofRows));
    return true;
  }

  // Makes rows of values of steps that take only one layout.
  bool MakeRows() const {
    bool changed = false;
    for (size_t s = 0; s < plan->steps.size; ++s) {
      const Step& step = StepAt(s);
      if (step.kind == StepKind::kAttention) {
        changed |= Differ(step.inputs[0], step.inputs[1], step.inputs[2],
                          step.outputs[0]);
      } else if (step.kind == StepKind::kQuantize ||
                 step.kind == StepKind::kDequantize) {
        changed |= Differ(step.inputs[0], step.outputs[0]);
      }
      for (int i = 1; i < plan->together.data[s]; ++i) {
        changed |= Differ(step.outputs[0], StepAt(s + i).outputs[0]);
      }
    }
    return changed;
  }
};

}  // namespace

void Plan::ChooseLayouts() {
  Chooser chooser = {this, false};
  chooser.FindChannels();
  chooser.Choose();
}

NormLayouts Plan::NormLayoutsOf(const Step& step) const {
  NormLayouts layouts = {};
  if (step.kind == StepKind::kLayerNorm) {
    // What is not there need not be converted.
    const auto input = [&](int i) {
      return step.inputs[i] < 0 ? kTfPofPanels : LayoutOf(step.inputs[i]);
    };
    layouts.residual = input(0);
    layouts.x = input(1);
    layouts.float_x = input(2);
  }
  layouts.output = LayoutOf(step.outputs[0]);
  layouts.quantized =
      step.outputs[1] < 0 ? kTfPofPanels : LayoutOf(step.outputs[1]);
  for (const int value : step.inputs) {
    layouts.panels |= LayoutOf(value) == kTfPofPanels;
  }
  for (const int value : step.outputs) {
    layouts.panels |= LayoutOf(value) == kTfPofPanels;
  }
  return layouts;
}

}  // namespace tf_pof
