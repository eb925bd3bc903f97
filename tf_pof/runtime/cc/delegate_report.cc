#include "delegate_report.h"

#include <stdio.h>

#include "run_layers.h"

namespace tf_pof {
const char* StepName(StepKind kind) {
  switch (kind) {
    case StepKind::kLinear:
      return "linear";
    case StepKind::kAttention:
      return "attention";
    case StepKind::kLayerNorm:
      return "layer norm";
    case StepKind::kEmbeddings:
      return "embeddings";
    case StepKind::kMask:
      return "mask";
    case StepKind::kQuantize:
      return "quantize";
    case StepKind::kDequantize:
      return "dequantize";
    case StepKind::kView:
      return "reshape";
    case StepKind::kToken:
      return "token";
    case StepKind::kUnpacked:
      return "packed weights";
  }
  return "";
}

namespace {

void PrintLinear(const Graph& graph, const LinearParams& linear) {
  const char* name = graph.tensor(linear.weights)->name;
  fprintf(stderr, " %s, %d x %d, %.1f %% zeros, %s",
          name == nullptr ? "" : name, linear.num_outputs, linear.num_inputs,
          100 * linear.zeros(), linear.packed >= 0 ? "packed" : "dense");
  if (linear.has_table) fprintf(stderr, ", with activation");
}

void PrintStep(const Match& match, int index) {
  const Step& step = match.steps.data[index];
  fprintf(stderr, "tf_pof: runs %s", StepName(step.kind));
  if (step.kind == StepKind::kLinear) PrintLinear(*match.graph, step.linear);
  if (step.kind == StepKind::kAttention) {
    fprintf(stderr, ", %d heads of %d, sequence %d",
            step.attention.heads.num_heads, step.attention.heads.head_size,
            step.attention.sequence);
  }
  fprintf(stderr, ": nodes");
  for (size_t i = 0; i < match.graph->nodes.size; ++i) {
    if (match.step_of.data[i] == index) {
      fprintf(stderr, " %d", match.graph->nodes.data[i].index);
    }
  }
  fprintf(stderr, "\n");
}

void PrintLeft(const Match& match, int node, const DelegateOptions& options) {
  const Node& left = match.graph->nodes.data[node];
  const int index = match.step_of.data[node];
  fprintf(stderr, "tf_pof: leaves node %d, ", left.index);
  if (index < 0) {
    fprintf(stderr, "operator %d\n", left.op);
    return;
  }
  const Step& step = match.steps.data[index];
  fprintf(stderr, "%s", StepName(step.kind));
  if (step.kind == StepKind::kLinear) {
    PrintLinear(*match.graph, step.linear);
    if (step.linear.zeros() < options.min_sparsity) {
      fprintf(stderr, ": below the min_sparsity of %.0f %%",
              100 * options.min_sparsity);
    }
  }
  fprintf(stderr, "\n");
}

}  // namespace

void ReportMatch(const Match& match, const DelegateOptions& options,
                 int partitions) {
  const size_t nodes = match.graph->nodes.size;
  size_t claimed = 0;
  for (size_t i = 0; i < nodes; ++i) {
    claimed += match.ClaimedStep(static_cast<int>(i)) != nullptr;
  }
  fprintf(stderr, "tf_pof: runs %zu of %zu nodes, in %d parts%s\n", claimed,
          nodes, partitions, options.dry_run ? " (dry run: none)" : "");
  Buffer<bool> printed = {};
  if (!printed.Resize(match.steps.size)) return;
  for (size_t i = 0; i < nodes; ++i) {
    const int step = match.step_of.data[i];
    if (match.ClaimedStep(static_cast<int>(i)) == nullptr) {
      PrintLeft(match, static_cast<int>(i), options);
    } else if (!printed.data[step]) {
      printed.data[step] = true;
      PrintStep(match, step);
    }
  }
  printed.Free();
}

void ReportLayer(const char* name, const LinearParams& linear,
                 const TfPofFullyConnected* layer, LayerOrigin origin,
                 const DelegateOptions& options) {
  static const char* const origins[] = {"", ", shared", ", from cache_dir"};
  fprintf(stderr,
          "tf_pof: %s: %d x %d, %.1f %% zeros: %s, the cheapest kernel of isa "
          "%s for %d tokens",
          name == nullptr ? "" : name, linear.num_outputs, linear.num_inputs,
          100 * linear.zeros(), TfPofFullyConnectedKernel(layer), options.isa,
          options.tokens);
  // What decides between windows and the others.
  if (layer->window_fill > 0) {
    fprintf(stderr, ", windows being %.0f %% full", 100 * layer->window_fill);
  }
  fprintf(stderr, "; %zu bytes%s\n", TfPofFullyConnectedBytes(layer),
          origins[static_cast<int>(origin)]);
}

}  // namespace tf_pof
