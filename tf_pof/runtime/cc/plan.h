// What one node of the delegate runs: the steps of a partition, in order, over
// values, most of which live in one arena.
#ifndef TF_POF_RUNTIME_CC_PLAN_H_
#define TF_POF_RUNTIME_CC_PLAN_H_

#include "delegate_options.h"
#include "match.h"
#include "transformer_kernel.h"
#include "weights_cache.h"

namespace tf_pof {

// Which threads share what is in the arena: of most values a thread has its
// tokens; attention reads those of all tokens, and writes heads.
enum class ThreadUse { kOwn, kReadByAll, kHeads };

// A tensor of the partition that is still computed.
struct Value {
  int tensor;
  // The value whose memory this one uses: itself, unless views are between.
  int storage;
  bool is_input;   // of the partition: made outside
  bool is_output;  // of the partition: read outside
  bool is_read;    // at all
  int type_size;
  int rank;
  int dims[kMaxRank];
  int64_t elements;
  // Of storage in the arena: steps that write first and read last, and place.
  int first;
  int last;
  size_t bytes;
  ThreadUse use;
  int place;  // the value whose offset is this one's too: itself, mostly
  size_t offset;
  // Of storage: as all steps see it, where it is panels.
  TfPofLayout layout;
  int channels;
};

// Of a step, for the option `profile`.
struct StepTime {
  int64_t calls;
  int64_t nanoseconds;
  int64_t waiting;  // nanoseconds of these, for other threads
  AttentionTicks ticks;
};

// As many linear steps may run in one call.
inline constexpr int kMaxTogether = 4;

struct Plan {
  // Inputs and outputs are values here, not tensors. Steps that are not
  // linear have no layer.
  Buffer<Step> steps;
  Buffer<Value> values;
  Buffer<CachedLayer*> layers;
  // [steps]: how many linear steps from this one on run in one call, because
  // they read the same input; 0 where another step runs this one too.
  Buffer<int> together;
  Buffer<StepTime> times;  // [steps], or none where nobody asked
  // Dense weights that other partitions seem to need, but do not read.
  Buffer<int> unread_weights;
  const TransformerKernel* kernel;  // of steps that are not linear
  bool packed;
  uint8_t* memory;  // of the arena, then the workspace, unaligned
  size_t memory_bytes;
  size_t workspace_offset;
  // Of the workspace, for each thread: the same for all steps, so that it
  // stays in the thread's cache.
  size_t thread_bytes;

  // Takes the steps of a partition. False after reporting what is wrong.
  bool Build(TfLiteContext* context, const Match& match,
             const TfLiteDelegateParams& params);
  // For the shapes that the inputs have now; packs weights the first time.
  TfLiteStatus Prepare(TfLiteContext* context, const DelegateOptions& options,
                       TfPofThreadPool* pool);
  TfLiteStatus Invoke(TfLiteContext* context, TfPofThreadPool* pool) const;
  void Free();

  // plan_shapes.cc: all values' dims; false after reporting.
  bool InferShapes(TfLiteContext* context);
  // plan_memory.cc: steps that run together, layouts, the arena and the
  // workspace; false without memory.
  bool PlanMemory(int threads);
  // plan_layouts.cc: of all values, for the layers' kernels.
  void ChooseLayouts();
  TfPofLayout LayoutOf(int value) const {
    return value < 0 ? kTfPofRows
                     : values.data[values.data[value].storage].layout;
  }
  // Of a layer norm or embeddings.
  NormLayouts NormLayoutsOf(const Step& step) const;
  // Whether it is storage there.
  bool InArena(int value) const;
  // Of an input or output tensor, or in the arena; null for value -1 and for
  // values that nobody reads.
  void* Data(const TfLiteContext* context, int value) const;
  uint8_t* Arena() const;  // aligned to a cache line
};

// What is wrong, for the user.
const char* Sentence(TfPofStatus status);

// What a linear step is made of, for the cache.
LayerSource SourceOf(const TfLiteContext* context, const LinearParams& linear,
                     const DelegateOptions& options);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PLAN_H_
