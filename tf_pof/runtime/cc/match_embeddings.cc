#include "match.h"

namespace tf_pof {
namespace {

// Rows [*first, *first + *rows) of a constant table.
bool FindPositions(const Graph& graph, int tensor, int channels, int* table,
                   int* first, int* rows) {
  *rows = graph.Dim(tensor, -2);
  *first = 0;
  // [rows, channels] for every example.
  for (int i = 0; i < graph.Rank(tensor) - 2; ++i) {
    if (graph.Dim(tensor, i) != 1) return false;
  }
  *table = tensor;
  return *rows > 0 &&
         graph.ConstantInt8(tensor, int64_t{*rows} * channels) != nullptr;
}

bool FindSlice(const Graph& graph, int node, int channels, int* table,
               int* first, int* rows) {
  const auto* options = graph.Options<TfLiteStridedSliceParams>(node);
  const int input = graph.Input(node, 0);
  const int32_t* begin = graph.ConstantInts(graph.Input(node, 1), 2);
  const int32_t* end = graph.ConstantInts(graph.Input(node, 2), 2);
  const int32_t* strides = graph.ConstantInts(graph.Input(node, 3), 2);
  if (options == nullptr || begin == nullptr || end == nullptr ||
      strides == nullptr || strides[0] != 1 || strides[1] != 1 ||
      options->ellipsis_mask != 0 || options->new_axis_mask != 0 ||
      options->shrink_axis_mask != 0 || options->offset ||
      graph.Rank(input) != 2 || graph.Dim(input, 1) != channels) {
    return false;
  }
  int all;
  if (!FindPositions(graph, input, channels, table, first, &all)) return false;
  *first = options->begin_mask & 1 ? 0 : begin[0];
  const int last = options->end_mask & 1 ? all : end[0];
  const bool whole = ((options->begin_mask & 2) || begin[1] == 0) &&
                     ((options->end_mask & 2) || end[1] == channels);
  *rows = last - *first;
  return whole && *first >= 0 && last <= all && *first < last;
}

bool FindIds(const Graph& graph, int node, int channels, int* table, int* ids) {
  const auto* options = graph.Options<TfLiteGatherParams>(node);
  *table = graph.Input(node, 0);
  *ids = graph.Input(node, 1);
  return options != nullptr && options->axis == 0 && options->batch_dims == 0 &&
         graph.Rank(*table) == 2 && graph.Dim(*table, 0) > 0 &&
         graph.Dim(*table, 1) == channels &&
         graph.ConstantInt8(*table, int64_t{graph.Dim(*table, 0)} * channels) !=
             nullptr &&
         graph.IsType(*ids, kTfLiteInt32) && !graph.IsConstant(*ids) &&
         graph.Rank(*ids) == 2;
}

// A DEQUANTIZE of rows of a table, by ids or by position, that only `reader`
// reads.
bool FindTable(const Graph& graph, int tensor, int reader, int channels,
               Step* step, NodeList* nodes) {
  EmbeddingsParams& embeddings = step->embeddings;
  const int dequantize = graph.Producer(tensor, kTfLiteBuiltinDequantize);
  int rows = graph.Input(dequantize, 0);
  const int i = embeddings.num_tables;
  if (i == 4 || graph.OnlyConsumer(tensor) != reader ||
      graph.Dim(rows, -1) != channels ||
      !graph.Quantization(rows, &embeddings.tables[i].quantization) ||
      !nodes->Add(dequantize)) {
    return false;
  }
  ++embeddings.num_tables;
  const int gather = graph.Producer(rows, kTfLiteBuiltinGather);
  if (gather >= 0) {
    int& ids = step->inputs[i];
    if (graph.OnlyConsumer(rows) != dequantize ||
        !FindIds(graph, gather, channels, &embeddings.tensors[i], &ids)) {
      return false;
    }
    embeddings.tables[i].rows = graph.Dim(embeddings.tensors[i], 0);
    return nodes->Add(gather);
  }
  int* table = &embeddings.tensors[i];
  int* first = &embeddings.first_row[i];
  int* count = &embeddings.tables[i].rows;
  for (int j = 0; j < graph.Rank(rows) - 2; ++j) {
    if (graph.Dim(rows, j) != 1) return false;
  }
  reader = dequantize;
  const int reshape = graph.Producer(rows, kTfLiteBuiltinReshape);
  const int sequence = graph.Dim(rows, -2);
  if (ReshapeShape(graph, reshape) >= 0) {
    if (graph.OnlyConsumer(rows) != reader || !nodes->Add(reshape)) {
      return false;
    }
    rows = graph.Input(reshape, 0);
    reader = reshape;
  }
  const int slice = graph.Producer(rows, kTfLiteBuiltinStridedSlice);
  if (slice >= 0) {
    if (graph.OnlyConsumer(rows) != reader || !nodes->Add(slice) ||
        !FindSlice(graph, slice, channels, table, first, count)) {
      return false;
    }
  } else if (!FindPositions(graph, rows, channels, table, first, count)) {
    return false;
  }
  if (*count != sequence ||
      (embeddings.sequence != 0 && embeddings.sequence != *count)) {
    return false;
  }
  embeddings.sequence = *count;
  return true;
}

}  // namespace

bool MatchEmbeddings(const Graph& graph, int sum, int channels, Step* step,
                     NodeList* nodes) {
  *step = MakeStep(StepKind::kEmbeddings);
  // Sums of sums, from the last: tensors that are left, and who reads them.
  int tensors[4] = {sum}, readers[4] = {-1};
  for (int left = 1; left > 0;) {
    const int tensor = tensors[--left];
    const int reader = readers[left];
    const int add = graph.Producer(tensor, kTfLiteBuiltinAdd);
    if (add >= 0 && graph.IsPlain(add, kTfLiteBuiltinAdd)) {
      if (left > 2 || !nodes->Add(add) ||
          (reader >= 0 && graph.OnlyConsumer(tensor) != reader)) {
        return false;
      }
      for (int i = 0; i < 2; ++i) {
        tensors[left] = graph.Input(add, 1 - i);
        readers[left++] = add;
      }
    } else if (reader < 0 ||
               !FindTable(graph, tensor, reader, channels, step, nodes)) {
      return false;
    }
  }
  // All ids are [batch, sequence].
  int ids = -1;
  for (const int tensor : step->inputs) {
    if (tensor < 0) continue;
    if (ids >= 0 && !graph.SameShape(ids, tensor)) return false;
    ids = tensor;
  }
  const int sequence = graph.Dim(ids, 1);
  return ids >= 0 && graph.Rank(sum) == 3 && graph.Dim(sum, 1) == sequence &&
         (step->embeddings.sequence == 0 ||
          step->embeddings.sequence == sequence);
}

}  // namespace tf_pof
