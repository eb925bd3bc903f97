#include "match.h"

namespace tf_pof {
namespace {

using Matcher = bool (*)(const Graph&, int node, Step*, NodeList*);

bool MatchEach(const Graph& graph, Matcher matcher, Match* match) {
  for (size_t i = 0; i < graph.nodes.size; ++i) {
    Step step;
    NodeList nodes = {};
    if (match->step_of.data[i] < 0 &&
        matcher(graph, static_cast<int>(i), &step, &nodes) &&
        !match->Add(step, nodes)) {
      return false;
    }
  }
  return true;
}

bool MatchMasks(const Graph& graph, Match* match) {
  for (size_t i = 0; i < match->steps.size; ++i) {
    const Step& attention = match->steps.data[i];
    if (attention.kind != StepKind::kAttention) continue;
    const int mask = attention.inputs[3];
    Step step;
    NodeList nodes = {};
    if (mask >= 0 && match->StepThatMakes(mask) == nullptr &&
        MatchMask(graph, mask, &step, &nodes) && !match->Add(step, nodes)) {
      return false;
    }
  }
  return true;
}

bool IsEncoderKind(StepKind kind) {
  return kind == StepKind::kAttention || kind == StepKind::kLayerNorm ||
         kind == StepKind::kEmbeddings || kind == StepKind::kMask;
}

bool IsLink(StepKind kind) {
  return kind == StepKind::kQuantize || kind == StepKind::kDequantize ||
         kind == StepKind::kView;
}

// Whether a linear step reads or feeds a step that is `in`, [steps].
bool TouchesAny(const Match& match, const Step& step, const bool* in) {
  const Graph& graph = *match.graph;
  const Step* maker = match.StepThatMakes(step.inputs[0]);
  if (maker != nullptr && in[maker - match.steps.data]) return true;
  const int* starts = graph.first_consumer.data;
  const int output = step.outputs[0];
  for (int i = starts[output]; i < starts[output + 1]; ++i) {
    const int reader = match.step_of.data[graph.consumers.data[i]];
    if (reader >= 0 && in[reader]) return true;
  }
  return false;
}

// Marks the encoder: steps of its own kinds, and linear ones next to any.
void MarkEncoder(const Match& match, bool* in) {
  for (size_t i = 0; i < match.steps.size; ++i) {
    in[i] = IsEncoderKind(match.steps.data[i].kind);
  }
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < match.steps.size; ++i) {
      const Step& step = match.steps.data[i];
      if (step.kind == StepKind::kLinear && !in[i] &&
          TouchesAny(match, step, in)) {
        in[i] = more = true;
      }
    }
  }
}

// Whether every reader of packed weights is claimed.
bool AllReadersClaimed(const Match& match, int node) {
  const Graph& graph = *match.graph;
  const int weights = graph.Output(node, 0);
  if (weights < 0) return false;
  const int* starts = graph.first_consumer.data;
  for (int i = starts[weights]; i < starts[weights + 1]; ++i) {
    const Step* step = match.ClaimedStep(graph.consumers.data[i]);
    if (step == nullptr || step->kind != StepKind::kLinear) return false;
  }
  return true;
}

}  // namespace

bool Match::Add(const Step& step, const NodeList& list) {
  for (int i = 0; i < list.count; ++i) {
    if (step_of.data[list.nodes[i]] >= 0) return true;
  }
  if (!steps.Append(step)) return false;
  for (int i = 0; i < list.count; ++i) {
    step_of.data[list.nodes[i]] = static_cast<int>(steps.size - 1);
  }
  return true;
}

bool Match::Find(const Graph& graph_to_match) {
  graph = &graph_to_match;
  if (!step_of.Resize(graph->nodes.size)) return false;
  for (size_t i = 0; i < step_of.size; ++i) step_of.data[i] = -1;
  return MatchEach(*graph, MatchLinear, this) &&
         MatchEach(*graph, MatchUnpacked, this) &&
         MatchEach(*graph, MatchAttention, this) && MatchMasks(*graph, this) &&
         MatchEach(*graph, MatchLayerNorm, this) &&
         MatchEach(*graph, MatchLink, this);
}

void Match::Free() {
  steps.Free();
  step_of.Free();
}

bool Match::Claim(double min_sparsity) {
  Buffer<bool> in_encoder = {};
  if (!in_encoder.Resize(steps.size)) return false;
  MarkEncoder(*this, in_encoder.data);
  double weights = 0, nonzeros = 0;
  bool packed = false;
  for (size_t i = 0; i < steps.size; ++i) {
    const Step& step = steps.data[i];
    if (step.kind != StepKind::kLinear || !in_encoder.data[i]) continue;
    weights += 1.0 * step.linear.num_inputs * step.linear.num_outputs;
    nonzeros += step.linear.nonzeros;
    packed |= step.linear.packed >= 0;
  }
  const bool encoder =
      weights > 0 && (packed || 1 - nonzeros / weights >= min_sparsity);
  for (size_t i = 0; i < steps.size; ++i) {
    Step& step = steps.data[i];
    step.claimed = encoder && in_encoder.data[i];
    if (step.kind == StepKind::kLinear) {
      step.claimed |=
          step.linear.packed >= 0 || step.linear.zeros() >= min_sparsity;
    }
  }
  in_encoder.Free();
  return ClaimLinks();
}

bool Match::ClaimLinks() {
  const size_t count = graph->nodes.size;
  // Links behind claimed steps; of these, the ones in front of others count.
  Buffer<bool> behind = {};
  if (!behind.Resize(steps.size)) return false;
  for (size_t i = 0; i < count; ++i) {
    const int index = step_of.data[i];
    if (index < 0) continue;
    Step& step = steps.data[index];
    if (step.kind == StepKind::kUnpacked) {
      step.claimed = AllReadersClaimed(*this, static_cast<int>(i));
    }
    if (!IsLink(step.kind)) continue;
    step.claimed = false;
    const Step* maker = StepThatMakes(step.inputs[0]);
    behind.data[index] = maker != nullptr &&
                         (IsLink(maker->kind) ? behind.data[maker - steps.data]
                                              : maker->claimed);
  }
  for (size_t i = count; i-- > 0;) {
    const int index = step_of.data[i];
    if (index < 0 || !behind.data[index]) continue;
    Step& step = steps.data[index];
    const int* starts = graph->first_consumer.data;
    const int output = step.outputs[0];
    for (int j = starts[output]; j < starts[output + 1]; ++j) {
      step.claimed |= ClaimedStep(graph->consumers.data[j]) != nullptr;
    }
  }
  behind.Free();
  return true;
}

int ScalarOperand(const Graph& graph, int node, int op, float* value,
                  bool* reversed) {
  if (!graph.IsPlain(node, op)) return -1;
  for (int i = 0; i < 2; ++i) {
    const int constant = graph.Input(node, i), other = graph.Input(node, 1 - i);
    if (!graph.IsConstant(other) && graph.IsType(other, kTfLiteFloat32) &&
        graph.Rank(constant) <= graph.Rank(other) &&
        graph.ConstantScalar(constant, value)) {
      *reversed = i == 0;
      return other;
    }
  }
  return -1;
}

int ReshapeShape(const Graph& graph, int node) {
  if (!graph.Is(node, kTfLiteBuiltinReshape)) return -1;
  const int shape = graph.Input(node, 1);
  const int rank = graph.Dim(shape, 0);
  const bool constant = graph.Rank(shape) == 1 && rank >= 1 &&
                        rank <= kMaxRank &&
                        graph.ConstantInts(shape, rank) != nullptr;
  return constant ? shape : -1;
}

bool MatchLink(const Graph& graph, int node, Step* step, NodeList* nodes) {
  const int input = graph.Input(node, 0), output = graph.Output(node, 0);
  if (output < 0 || graph.IsConstant(input)) return false;
  if (graph.Is(node, kTfLiteBuiltinQuantize) &&
      graph.IsType(input, kTfLiteFloat32)) {
    *step = MakeStep(StepKind::kQuantize);
    if (!graph.Quantization(output, &step->quantization)) return false;
  } else if (graph.Is(node, kTfLiteBuiltinDequantize) &&
             graph.IsType(output, kTfLiteFloat32)) {
    *step = MakeStep(StepKind::kDequantize);
    if (!graph.Quantization(input, &step->quantization)) return false;
  } else if (ReshapeShape(graph, node) >= 0 &&
             (graph.IsType(input, kTfLiteFloat32) ||
              graph.IsType(input, kTfLiteInt8)) &&
             graph.IsType(output, graph.tensor(input)->type)) {
    *step = MakeStep(StepKind::kView);
    step->shape = ReshapeShape(graph, node);
  } else {
    return false;
  }
  step->inputs[0] = input;
  step->outputs[0] = output;
  return nodes->Add(node);
}

}  // namespace tf_pof
