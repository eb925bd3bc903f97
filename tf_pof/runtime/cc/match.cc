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
         kind == StepKind::kView || kind == StepKind::kToken;
}

// The step that makes a tensor, or what the links between are made from.
const Step* MakerBehindLinks(const Match& match, int tensor) {
  const Step* maker = match.StepThatMakes(tensor);
  // A cycle of links would be no graph.
  for (size_t i = 0; maker != nullptr && IsLink(maker->kind); ++i) {
    if (i > match.steps.size) return nullptr;
    maker = match.StepThatMakes(maker->inputs[0]);
  }
  return maker;
}

// What a linear step has to do with the encoder.
struct Place {
  bool behind;    // some step of it
  bool in_front;  // of some step
};

// Linear steps were added in the order of nodes: one pass each way.
void FindPlaces(const Match& match, Place* places) {
  const Step* steps = match.steps.data;
  for (size_t i = 0; i < match.steps.size; ++i) {
    if (steps[i].kind != StepKind::kLinear) continue;
    const Step* maker = MakerBehindLinks(match, steps[i].inputs[0]);
    if (maker == nullptr) continue;
    places[i].behind =
        IsEncoderKind(maker->kind) ||
        (maker->kind == StepKind::kLinear && places[maker - steps].behind);
  }
  const Graph& graph = *match.graph;
  const int* starts = graph.first_consumer.data;
  for (size_t i = match.steps.size; i-- > 0;) {
    if (steps[i].kind != StepKind::kLinear) continue;
    const int output = steps[i].outputs[0];
    for (int j = starts[output]; j < starts[output + 1]; ++j) {
      const int reader = match.step_of.data[graph.consumers.data[j]];
      if (reader < 0) continue;
      places[i].in_front |=
          IsEncoderKind(steps[reader].kind) ||
          (steps[reader].kind == StepKind::kLinear && places[reader].in_front);
    }
  }
}

// Layers next to an encoder with so few cost less than a change of runtimes.
constexpr double kFewWeights = 1 << 16;

double NumWeights(const Step& step) {
  return 1.0 * step.linear.num_inputs * step.linear.num_outputs;
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
  if (!MatchEach(*graph, MatchLinear, this)) return false;
  CountZeros(this);
  return MatchEach(*graph, MatchUnpacked, this) &&
         MatchEach(*graph, MatchAttention, this) && MatchMasks(*graph, this) &&
         MatchEach(*graph, MatchLayerNorm, this) &&
         MatchEach(*graph, MatchLink, this);
}

void Match::Free() {
  steps.Free();
  step_of.Free();
}

bool Match::Claim(const DelegateOptions& options) {
  Buffer<Place> places = {};
  if (!places.Resize(steps.size)) return false;
  FindPlaces(*this, places.data);
  double weights = 0, nonzeros = 0;
  bool packed = false;
  for (size_t i = 0; i < steps.size; ++i) {
    const Step& step = steps.data[i];
    if (!places.data[i].behind || !places.data[i].in_front) continue;
    weights += NumWeights(step);
    nonzeros += step.linear.nonzeros;
    packed |= step.linear.packed >= 0;
  }
  const bool encoder =
      weights > 0 &&
      (packed || 1 - nonzeros / weights >= options.min_encoder_sparsity);
  for (size_t i = 0; i < steps.size; ++i) {
    Step& step = steps.data[i];
    if (step.kind != StepKind::kLinear) {
      step.claimed = encoder && IsEncoderKind(step.kind);
      continue;
    }
    const Place& place = places.data[i];
    const bool between = place.behind && place.in_front;
    const bool next = place.behind || place.in_front;
    step.claimed =
        step.linear.packed >= 0 ||
        step.linear.zeros() >= options.min_sparsity ||
        (encoder && (between || (next && NumWeights(step) < kFewWeights)));
  }
  places.Free();
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
    step.claimed = graph->is_output.data[output];
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

namespace {

// A STRIDED_SLICE of one token of each sequence, as [batch, channels].
bool FindToken(const Graph& graph, int node, TokenParams* params) {
  if (!graph.Is(node, kTfLiteBuiltinStridedSlice)) return false;
  const auto* options = graph.Options<TfLiteStridedSliceParams>(node);
  const int input = graph.Input(node, 0);
  const int32_t* begin = graph.ConstantInts(graph.Input(node, 1), 3);
  const int32_t* strides = graph.ConstantInts(graph.Input(node, 3), 3);
  constexpr int kOne = 2, kOthers = 5;  // bits of dimensions
  if (options == nullptr || begin == nullptr || strides == nullptr ||
      strides[0] != 1 || strides[1] != 1 || strides[2] != 1 ||
      options->shrink_axis_mask != kOne || options->begin_mask != kOthers ||
      options->end_mask != kOthers || options->ellipsis_mask != 0 ||
      options->new_axis_mask != 0 || options->offset ||
      graph.Rank(input) != 3) {
    return false;
  }
  *params = {begin[1], graph.Dim(input, 1), graph.Dim(input, 2)};
  return params->token >= 0 && params->token < params->sequence &&
         params->channels > 0;
}

}  // namespace

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
  } else if (!(graph.IsType(input, kTfLiteFloat32) ||
               graph.IsType(input, kTfLiteInt8)) ||
             !graph.IsType(output, graph.tensor(input)->type)) {
    return false;
  } else if (TokenParams token; FindToken(graph, node, &token)) {
    *step = MakeStep(StepKind::kToken);
    step->token = token;
  } else if (ReshapeShape(graph, node) >= 0) {
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
