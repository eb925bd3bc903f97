#include "tests/fake_tflite.h"
#include "tests/testing.h"

namespace tf_pof {
namespace {

constexpr int kReady = -1;
constexpr int kNotReady = -2;

void AddOnce(Buffer<int>* values, int value) {
  for (size_t i = 0; i < values->size; ++i) {
    if (values->data[i] == value) return;
  }
  CHECK(values->Append(value), "no memory");
}

// As tflite/core/graph_info.cc does it.
struct Partitioner {
  const FakeModel& model;
  Buffer<bool> wanted;    // [nodes]
  Buffer<int> of_node;    // [nodes], a subset or kNotReady
  Buffer<int> of_tensor;  // [tensors], the same or kReady

  const TfLiteNode& At(int node) const { return model.nodes[node].node; }

  bool Valid(int tensor) const {
    return tensor >= 0 && tensor < static_cast<int>(of_tensor.size);
  }

  void Place(int node, int subset) {
    of_node.data[node] = subset;
    const TfLiteIntArray& outputs = *At(node).outputs;
    for (int i = 0; i < outputs.size; ++i) {
      if (Valid(outputs.data[i])) of_tensor.data[outputs.data[i]] = subset;
    }
  }

  bool IsReady(int node) const {
    const TfLiteIntArray& inputs = *At(node).inputs;
    for (int i = 0; i < inputs.size; ++i) {
      const int tensor = inputs.data[i];
      if (Valid(tensor) && of_tensor.data[tensor] == kNotReady) return false;
    }
    return true;
  }

  // Each as early and as large as can be; false if there is none any more.
  bool Fill(int subset) {
    bool any = false, kind = false;
    for (bool more = true; more;) {
      more = false;
      for (int i = 0; i < model.plan->size; ++i) {
        const int node = model.plan->data[i];
        if (of_node.data[node] != kNotReady || !IsReady(node) ||
            (any && wanted.data[node] != kind)) {
          continue;
        }
        kind = wanted.data[node];
        any = more = true;
        Place(node, subset);
      }
    }
    return any;
  }

  bool IsReadElsewhere(int tensor, int subset) const {
    for (int i = 0; i < model.plan->size; ++i) {
      const int node = model.plan->data[i];
      const TfLiteIntArray& inputs = *At(node).inputs;
      for (int j = 0; j < inputs.size; ++j) {
        if (inputs.data[j] == tensor && of_node.data[node] != subset) {
          return true;
        }
      }
    }
    return model.records.data[tensor].flags & FakeTensor::kOutput;
  }

  FakeSubset Describe(int subset) const {
    Buffer<int> nodes = {}, inputs = {}, outputs = {};
    for (int i = 0; i < model.plan->size; ++i) {
      const int node = model.plan->data[i];
      if (of_node.data[node] != subset) continue;
      AddOnce(&nodes, node);
      const TfLiteNode& found = At(node);
      for (int j = 0; j < found.inputs->size; ++j) {
        const int tensor = found.inputs->data[j];
        if (Valid(tensor) && of_tensor.data[tensor] != subset) {
          AddOnce(&inputs, tensor);
        }
      }
      for (int j = 0; j < found.outputs->size; ++j) {
        const int tensor = found.outputs->data[j];
        if (Valid(tensor) && of_tensor.data[tensor] == subset &&
            IsReadElsewhere(tensor, subset)) {
          AddOnce(&outputs, tensor);
        }
      }
    }
    FakeSubset made = {};
    made.wanted = wanted.data[nodes.data[0]];
    made.params.nodes_to_replace = NewIntArray(nodes.data, nodes.size);
    made.params.input_tensors = NewIntArray(inputs.data, inputs.size);
    made.params.output_tensors = NewIntArray(outputs.data, outputs.size);
    nodes.Free();
    inputs.Free();
    outputs.Free();
    return made;
  }
};

}  // namespace

void FindSubsets(const FakeModel& model, const TfLiteIntArray& wanted,
                 Buffer<FakeSubset>* subsets) {
  Partitioner partitioner = {model, {}, {}, {}};
  Buffer<int>& of_tensor = partitioner.of_tensor;
  CHECK(partitioner.wanted.Resize(model.num_nodes) &&
            partitioner.of_node.Resize(model.num_nodes) &&
            of_tensor.Resize(model.records.size),
        "no memory");
  for (int i = 0; i < wanted.size; ++i) {
    const int node = wanted.data[i];
    CHECK(node >= 0 && node < model.num_nodes, "%d is no node", node);
    partitioner.wanted.data[node] = true;
  }
  for (size_t i = 0; i < of_tensor.size; ++i) of_tensor.data[i] = kReady;
  for (int i = 0; i < model.plan->size; ++i) {
    partitioner.Place(model.plan->data[i], kNotReady);
  }
  int count = 0;
  while (partitioner.Fill(count)) ++count;
  for (int i = 0; i < count; ++i) {
    CHECK(subsets->Append(partitioner.Describe(i)), "no memory");
  }
  partitioner.wanted.Free();
  partitioner.of_node.Free();
  of_tensor.Free();
}

}  // namespace tf_pof
