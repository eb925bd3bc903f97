// Finds the steps in a graph, and which of them are worth taking.
//
// Patterns say what is computed, not in which order a converter wrote it:
// scales may stand at queries, keys or scores, DEQUANTIZE before or behind a
// TRANSPOSE, operands either way round. What does not fit in any detail is not
// matched and stays with the runtime.
#ifndef TF_POF_RUNTIME_CC_MATCH_H_
#define TF_POF_RUNTIME_CC_MATCH_H_

#include "delegate_options.h"
#include "graph.h"
#include "step.h"

namespace tf_pof {

// As tf_pof/export/encodings/packed.py names it.
inline constexpr char kPackedCode[] =
    "TF_POF_PACKED_WEIGHTS (load the tf_pof delegate)";

// Nodes of a step that is being matched.
struct NodeList {
  static constexpr int kMax = 64;
  int nodes[kMax];
  int count;

  bool Add(int node) {
    if (node < 0 || count == kMax) return false;
    nodes[count++] = node;
    return true;
  }
  bool Has(int node) const {
    for (int i = 0; i < count; ++i) {
      if (nodes[i] == node) return true;
    }
    return false;
  }
};

struct Match {
  const Graph* graph;
  Buffer<Step> steps;
  Buffer<int> step_of;  // [nodes], -1 for none

  // Finds all steps; none is claimed yet. False when memory runs out.
  bool Find(const Graph& graph_to_match);
  void Free();

  // Chooses the steps that are worth it: packed weights, encoders and lone
  // linear steps with as many zeros as the options say, and what stands between
  // them. False when memory runs out.
  bool Claim(const DelegateOptions& options);
  // Claims what only passes values on between claimed steps, or from them to
  // the model's outputs, and drops what no longer does.
  bool ClaimLinks();

  const Step* ClaimedStep(int node) const {
    const int i = node < 0 ? -1 : step_of.data[node];
    return i >= 0 && steps.data[i].claimed ? &steps.data[i] : nullptr;
  }
  // The step of any kind, claimed or not, that makes a tensor.
  const Step* StepThatMakes(int tensor) const {
    const int node = tensor < 0 ? -1 : graph->producers.data[tensor];
    const int i = node < 0 ? -1 : step_of.data[node];
    return i < 0 ? nullptr : &steps.data[i];
  }
  // Adds a step unless one of its nodes is in another; false when memory runs
  // out.
  bool Add(const Step& step, const NodeList& nodes);
};

// Each looks for the pattern that ends or begins at `node`.
bool MatchLinear(const Graph& graph, int node, Step* step, NodeList* nodes);
// Counts the dense weights of all linear steps that are not zero, once they are
// found, on all processors: it is the first time that the file is read.
void CountZeros(Match* match);
bool MatchUnpacked(const Graph& graph, int node, Step* step, NodeList* nodes);
bool MatchAttention(const Graph& graph, int softmax, Step* step,
                    NodeList* nodes);
bool MatchMask(const Graph& graph, int mask, Step* step, NodeList* nodes);
// A layer norm, or embeddings with theirs.
bool MatchLayerNorm(const Graph& graph, int rsqrt, Step* step, NodeList* nodes);
// `sum` is what the nodes from `first` on, of a layer norm, read.
bool MatchEmbeddings(const Graph& graph, int sum, int channels, Step* step,
                     NodeList* nodes);
// A QUANTIZE, DEQUANTIZE, RESHAPE or slice of one token by itself.
bool MatchLink(const Graph& graph, int node, Step* step, NodeList* nodes);

// The other operand of a plain ADD, SUB or MUL whose one operand is a constant
// scalar; -1 if there is none. `reversed`: the constant comes first.
int ScalarOperand(const Graph& graph, int node, int op, float* value,
                  bool* reversed);
// The constant shape of a RESHAPE that copies nothing, or -1.
int ReshapeShape(const Graph& graph, int node);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_MATCH_H_
