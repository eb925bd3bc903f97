// A subgraph of a TFLite model as a matcher looks at it: who makes and who
// reads each tensor, and constants and quantization that were checked.
//
// Nodes are numbered by their place in the execution plan; -1 is no node and
// no tensor. Every question may be asked with -1.
#ifndef TF_POF_RUNTIME_CC_GRAPH_H_
#define TF_POF_RUNTIME_CC_GRAPH_H_

#include "buffer.h"
#include "tflite_abi.h"
#include "transformer.h"

namespace tf_pof {

inline constexpr int kMaxRank = 6;

struct Node {
  int index;  // TFLite's
  int op;     // builtin code
  const char* custom_name;
  const TfLiteNode* node;
};

struct Graph {
  TfLiteContext* context;
  Buffer<Node> nodes;
  Buffer<int> producers;       // [tensors], below 0: no node, or several
  Buffer<int> first_consumer;  // [tensors + 1], into `consumers`
  Buffer<int> consumers;       // nodes; one that reads a tensor twice is twice
  Buffer<bool> is_output;      // [tensors], of the subgraph

  // Reads and checks the subgraph; false after reporting why not. The context
  // must be one for delegates. Free() in any case.
  bool Open(TfLiteContext* tflite_context);
  void Free();

  int num_tensors() const { return static_cast<int>(producers.size); }

  bool Is(int node, int op) const {
    return node >= 0 && nodes.data[node].op == op;
  }
  // The node's tensor, or -1 if it has none there or is not there itself.
  int Input(int node, int i) const;
  int Output(int node, int i) const;
  int NumInputs(int node) const;
  // The node that makes `tensor`, if its op is the one that is wanted.
  int Producer(int tensor, int op) const;
  int NumConsumers(int tensor) const;
  // The only node that reads `tensor`, once, if the caller of the model does
  // not see it.
  int OnlyConsumer(int tensor) const;
  // The same, if its op is `op`.
  int OnlyConsumer(int tensor, int op) const;

  const TfLiteTensor* tensor(int tensor) const {
    return &context->tensors[tensor];
  }
  bool IsType(int tensor, int type) const;
  int Rank(int tensor) const;        // -1 without a tensor
  int Dim(int tensor, int i) const;  // counted from the end if i < 0; or -1
  bool SameShape(int a, int b) const;
  bool IsConstant(int tensor) const;
  // Values of a constant of this many elements, or null.
  const float* ConstantFloats(int tensor, int64_t count) const;
  const int32_t* ConstantInts(int tensor, int64_t count) const;
  const int8_t* ConstantInt8(int tensor, int64_t count) const;
  bool ConstantScalar(int tensor, float* value) const;
  // Whether an int8 tensor has one scale and zero point that make sense.
  bool Quantization(int tensor, TfPofQuantization* quantization) const;
  // ADD, SUB or MUL without a fused activation.
  bool IsPlain(int node, int op) const;

  template <typename T>
  const T* Options(int node) const {
    return static_cast<const T*>(nodes.data[node].node->builtin_data);
  }
};

// Elements of a shape, or -1 if that makes no sense or overflows.
int64_t NumElements(const TfLiteIntArray* dims);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_GRAPH_H_
