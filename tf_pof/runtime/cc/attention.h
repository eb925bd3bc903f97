// Scratch memory of attention: one head, and one block of its queries.
#ifndef TF_POF_RUNTIME_CC_ATTENTION_H_
#define TF_POF_RUNTIME_CC_ATTENTION_H_

#include "buffer.h"
#include "transformer_kernel.h"

namespace tf_pof {

// Plain sizes and offsets in bytes, all multiples of a cache line.
struct AttentionScratch {
  int keys;      // the sequence rounded up to two vectors of 16
  int depth;     // the head size rounded up to a group of 4
  int channels;  // the head size rounded up to a vector

  size_t key_tile;     // [depth / 4][keys][4] int8, [depth / 2][keys][2] int16
  size_t value_tile;   // [keys / 2][channels][2] int16: keys k and k + 16
  size_t corrections;  // [keys] int32, to be added to the scores
  size_t mask;         // [keys] float32, -infinity after the sequence
  size_t queries;      // [kQueryRows][depth] int8 or int16
  // [kQueryRows][keys] float32, and int16 weights in their place
  size_t scores;
  size_t context;  // [kQueryRows][channels] float32
  size_t total;
};

static inline AttentionScratch PlanAttention(int sequence, int head_size) {
  AttentionScratch plan;
  plan.keys = CeilDiv(sequence, 32) * 32;
  plan.depth = CeilDiv(head_size, 4) * 4;
  plan.channels = CeilDiv(head_size, 16) * 16;
  const size_t keys = plan.keys, depth = plan.depth, channels = plan.channels;
  const size_t rows = kQueryRows;
  size_t end = 0;
  const auto take = [&end](size_t bytes) {
    const size_t begin = end;
    end += CeilDiv(bytes, kCacheLine) * kCacheLine;
    return begin;
  };
  plan.key_tile = take(depth * keys * sizeof(int16_t));
  plan.value_tile = take(keys * channels * sizeof(int16_t));
  plan.corrections = take(keys * sizeof(int32_t));
  plan.mask = take(keys * sizeof(float));
  plan.queries = take(rows * depth * sizeof(int16_t));
  plan.scores = take(rows * keys * sizeof(float));
  plan.context = take(rows * channels * sizeof(float));
  plan.total = end;
  return plan;
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_H_
