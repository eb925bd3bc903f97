// A TFLite interpreter's side of tflite_abi.h, as far as a delegate sees it: a
// graph read from a few bytes, partitions, memory, calls of the delegate's
// nodes. What the delegate leaves is not computed: its outputs hold what the
// bytes say.
//
// The bytes are records of fixed size, so that a fuzzer that changes some of
// them changes one thing of a model (tests/runtime/seeds.py writes them):
//
//   header   FakeHeader
//   tensors  FakeTensor each
//   nodes    FakeNode each
//   pool     the rest: constants, inputs, scales and zero points, at offsets;
//            read again from its start where it ends
//
// Arrays have the sizes that TFLite promises and not a byte more, so that
// sanitizers see what is read beyond them. That sizes fit shapes, indices are
// those of tensors and the like is not promised: a file says so.
#ifndef TF_POF_RUNTIME_CC_TESTS_FAKE_TFLITE_H_
#define TF_POF_RUNTIME_CC_TESTS_FAKE_TFLITE_H_

#include "buffer.h"
#include "tflite_abi.h"

namespace tf_pof {

// Records are little endian and have no padding.
struct FakeHeader {
  uint16_t num_tensors;
  uint16_t num_nodes;
  // Bits: 0 to 2 isa, 3 two threads, 4 any zeros, 5 one token, 6 checksums of
  // packed weights are put right.
  uint8_t options;
  uint8_t batch;    // of a second call; 0 for none
  uint8_t unused[2];
};

struct FakeTensor {
  enum Flags {
    kConstant = 1,
    kOutput = 2,
    kAnyBatch = 4,  // the signature's first dimension is -1
    kVariable = 8,
    kSparse = 16,
    kNoData = 32,
    kNoParams = 64,
    kUnaligned = 128,
  };

  uint8_t type;
  uint8_t flags;
  uint8_t rank;  // dimensions from the seventh on are 1; kNoDims: none at all
  int8_t quantized_dimension;
  int32_t dims[6];
  uint16_t num_scales;
  uint16_t num_zero_points;
  uint32_t scales;  // in the pool, as zero points and data
  uint32_t zero_points;
  uint32_t data;
  uint32_t bytes;  // of a constant
  uint8_t quantization_type;
  uint8_t unused[3];
};
inline constexpr int kNoDims = 255;

struct FakeNode {
  enum Params { kNone = 0, kSome = 1, kPackedWeights = 2 };

  uint8_t op;
  uint8_t num_inputs;
  uint8_t num_outputs;
  uint8_t params;
  int16_t inputs[8];
  int16_t outputs[2];
  uint8_t builtin_data[24];
};

struct FakeModel {
  struct Entry {
    TfLiteNode node;
    TfLiteRegistration registration;
    TfLiteDelegateParams params;  // of a delegate's node
  };

  TfLiteContext context;
  FakeHeader header;
  Buffer<FakeTensor> records;
  Entry* nodes;
  int num_nodes;
  TfLiteIntArray* plan;
  const uint8_t* pool;
  size_t pool_size;
  Buffer<TfLiteDelegateParams> preview;
  char error[256];  // the last that was reported

  // False if the bytes are too few or the model too large. The bytes must live
  // until Free(), which is called in any case.
  bool Read(const uint8_t* bytes, size_t size);
  // As ModifyGraphWithDelegate.
  TfLiteStatus Apply(TfLiteDelegate* delegate);
  // As AllocateTensors: prepares the delegate's nodes, gives tensors memory.
  TfLiteStatus Allocate();
  TfLiteStatus Invoke();
  // Sets the first dimension of tensors that may have any. Allocate() follows.
  void ResizeBatch(int batch);
  void Free();

  // Nodes of the plan that are the delegate's.
  int NumDelegated() const;

  // Grows `nodes` by one as a vector does: pointers to them are lost.
  Entry* AddNode();
  // New memory for a tensor, with what the pool has for it.
  void SetData(int tensor, size_t bytes);
  void SetFunctions();
  void FreePreview();
};

// A subset of the plan's nodes, with `wanted` or without.
struct FakeSubset {
  bool wanted;
  TfLiteDelegateParams params;
};

// fake_partitions.cc: TFLite's division of a plan into subsets of nodes that
// all are in `wanted` or none of them, in the order that they run in. Nodes of
// a cycle are in none. The caller frees what is in the subsets.
void FindSubsets(const FakeModel& model, const TfLiteIntArray& wanted,
                 Buffer<FakeSubset>* subsets);

// An array of exactly so many elements.
TfLiteIntArray* NewIntArray(const int* values, size_t count);
void FreeParams(TfLiteDelegateParams* params);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TESTS_FAKE_TFLITE_H_
