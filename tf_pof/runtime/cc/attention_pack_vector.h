// What attention packs over the vectors of one instruction set: keys, values
// and the mask once a head, queries once a block.
#ifndef TF_POF_RUNTIME_CC_ATTENTION_PACK_VECTOR_H_
#define TF_POF_RUNTIME_CC_ATTENTION_PACK_VECTOR_H_

#include <math.h>
#include <string.h>

#include "attention.h"
#include "buffer.h"
#include "quantize_vector.h"
#include "transformer_kernel.h"

namespace tf_pof {
namespace {

// Scores are in units of log(2) / 2^16, so that the low half of a rounded one
// is its fraction.
constexpr float kScoreOne = 1.44269504f * 65536;
constexpr float kMostMask = 1e33f;
// Weights are made of two vectors of keys at once.
constexpr int kPairKeys = 2 * kLanes;

// Pointers into the scratch memory of a task.
struct Head {
  const AttentionTask& task;
  AttentionScratch plan;
  int head_size;
  size_t stride;
  // Keys that are not masked away at the end of the sequence.
  int keys;

  explicit Head(const AttentionTask& task)
      : task(task),
        plan(PlanAttention(task.sequence, task.params->head_size)),
        head_size(task.params->head_size),
        stride(task.stride),
        keys(task.sequence) {}

  template <typename T>
  T* at(size_t offset) const {
    return reinterpret_cast<T*>(task.scratch + offset);
  }

  float score_scale() const {
    const TfPofAttentionParams& p = *task.params;
    return p.query.scale * p.key.scale * p.score_scale * kScoreOne;
  }

  // Rows after the sequence stand for its last one: their scores are finite,
  // and their weights zero.
  const int8_t* Row(const int8_t* rows, int k) const {
    return rows + Min(k, task.sequence - 1) * stride;
  }
};

// Returns how many keys are left when those at the end are not counted that
// their mask gives a weight of zero whatever the scores.
int CountKeys(const Head& head) {
  const float* mask = head.task.mask;
  int keys = head.task.sequence;
  if (mask == nullptr) return keys;
  Vector::Float most_of_lanes = Vector::Set(-kMostMask);
  int k = 0;
  for (; k + kLanes <= keys; k += kLanes) {
    most_of_lanes = Vector::Max(Vector::Load(mask + k), most_of_lanes);
  }
  float highest = Vector::Highest(most_of_lanes);
  for (; k < keys; ++k) highest = Max(highest, mask[k]);
  highest = Min(highest, kMostMask) * kScoreOne;
  // What scores can differ by, and a power of two that rounds to nothing.
  const float most = 2.0f * 255 * 255 * static_cast<float>(head.head_size);
  const float range = most * fabsf(head.score_scale()) + 32.0f * 65536;
  while (keys > 1 &&
         Max(-kMostMask, mask[keys - 1]) * kScoreOne < highest - range) {
    --keys;
  }
  return keys;
}

// Into groups of one product, a vector of keys after the other in each.
template <typename Product>
void PackKeyVector(const Head& head, int first,
                   typename Product::OwnElement* tile, size_t row_size) {
  constexpr int kSize = Product::kSize;
  const int size = head.head_size;
  for (int i = 0; i < kLanes; ++i) {
    const int8_t* row = head.Row(head.task.key, first + i);
    typename Product::OwnElement* to = tile + (first + i) * kSize;
    int d = 0;
    for (; d + kSize <= size; d += kSize, to += row_size) {
      for (int j = 0; j < kSize; ++j) to[j] = row[d + j];
    }
    for (; d < head.plan.depth; d += kSize, to += row_size) {
      for (int j = 0; j < kSize; ++j) to[j] = d + j < size ? row[d + j] : 0;
    }
  }
}

// Products are sum((query + shift) * key) + correction of the key, where shift
// makes queries fit their type. The key's zero point adds the same to all
// scores of a query, which softmax does not see.
void PackKeys(const Head& head) {
  using Product = Vector::Scores;
  constexpr int kSize = Product::kSize;
  const int keys = CeilDiv(head.keys, kPairKeys) * kPairKeys;
  const int groups = head.plan.depth / kSize;
  auto* tile = head.at<typename Product::OwnElement>(head.plan.key_tile);
  const size_t row_size = static_cast<size_t>(head.plan.keys) * kSize;
  int packed = 0;
#if defined(TF_POF_PACKS_KEYS)
  packed = Vector::PackKeys(head.task.key, head.stride, head.task.sequence,
                            head.head_size, keys, tile, row_size);
#endif
  for (int k = packed; k < keys; k += kLanes) {
    PackKeyVector<Product>(head, k, tile, row_size);
  }

  const int zero_point = head.task.params->query.zero_point;
  const Vector::Int factor =
      Vector::SetInt(-(Product::Shift(zero_point) + zero_point));
  auto* corrections = head.at<int32_t>(head.plan.corrections);
  typename Product::SharedElement one[kSize];
  for (auto& element : one) element = 1;
  const auto ones = Product::LoadShared(one);
  for (int k = 0; k < keys; k += kLanes) {
    auto sums = Product::Start(Vector::SetInt(0));
    for (int g = 0; g < groups; ++g) {
      Product::Dot(ones, Product::LoadOwn(tile + g * row_size + k * kSize),
                   &sums);
    }
    Vector::StoreInt(corrections + k,
                     Vector::MulInt(Product::Total(sums), factor));
  }
}

// Two rows of values as pairs; those after `size` channels are zero.
void PackPairs(const int8_t* row, const int8_t* next, int size, int channels,
               int16_t* to) {
  int d = 0;
  for (; d + kLanes <= size; d += kLanes) {
    Vector::StorePairs(to + 2 * d, row + d, next + d);
  }
  for (; d < channels; d += kLanes) {
    int8_t a[kLanes] = {}, b[kLanes] = {};
    for (int i = 0; d + i < size; ++i) {
      a[i] = row[d + i];
      b[i] = next[d + i];
    }
    Vector::StorePairs(to + 2 * d, a, b);
  }
}

// The same of kVectors, without a loop.
template <int kVectors>
TF_POF_INLINE void PackPairs(const int8_t* row, const int8_t* next,
                             int16_t* to) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int d = v * kLanes;
    Vector::StorePairs(to + 2 * d, row + d, next + d);
  }
}

// Pairs have a key of each of two vectors. kChannels are those of the head, and
// loops are unrolled, or 0 for any number of them.
template <int kChannels>
void PackValues(const Head& head) {
  const int channels = head.plan.channels;
  auto* to = head.at<int16_t>(head.plan.value_tile);
  for (int block = 0; block < head.keys; block += kPairKeys) {
    const int pairs = Min(head.keys - block, kLanes);
    for (int i = 0; i < pairs; ++i, to += 2 * channels) {
      const int8_t* row = head.Row(head.task.value, block + i);
      const int8_t* next = head.Row(head.task.value, block + i + kLanes);
      if constexpr (kChannels > 0) {
        PackPairs<kChannels / kLanes>(row, next, to);
      } else {
        PackPairs(row, next, head.head_size, channels, to);
      }
    }
  }
}

void PackValues(const Head& head) {
  if (head.head_size == 64) {
    PackValues<64>(head);
  } else if (head.head_size == 32) {
    PackValues<32>(head);
  } else {
    PackValues<0>(head);
  }
}

// In units of scores; NaN becomes the lowest.
Vector::Float ClampMask(const Vector::Float& mask) {
  const Vector::Float clamped = Vector::Min(
      Vector::Max(mask, Vector::Set(-kMostMask)), Vector::Set(kMostMask));
  return Vector::Mul(clamped, Vector::Set(kScoreOne));
}

void PackMask(const Head& head) {
  auto* to = head.at<float>(head.plan.mask);
  const float* mask = head.task.mask;
  for (int k = 0; k < head.plan.keys; k += kLanes, to += kLanes) {
    const int left = head.keys - k;
    if (left >= kLanes) {
      Vector::Store(to, mask == nullptr ? Vector::Set(0.0f)
                                        : ClampMask(Vector::Load(mask + k)));
      continue;
    }
    Vector::Store(to, Vector::Set(-INFINITY));
    for (int i = 0; i < left; ++i) {
      const float one = mask == nullptr ? 0.0f : mask[k + i];
      const float least = one > -kMostMask ? one : -kMostMask;
      to[i] = (least < kMostMask ? least : kMostMask) * kScoreOne;
    }
  }
}

// Packs a block of queries from `first` on; kChannels as above.
template <int kChannels>
void PackQueries(const Head& head, int first, int rows) {
  using Product = Vector::Scores;
  using Element = typename Product::SharedElement;
  const int size = kChannels > 0 ? kChannels : head.head_size;
  const int depth = head.plan.depth;
  const int zero_point = head.task.params->query.zero_point;
  const size_t stride = head.stride;
  auto* to = head.at<Element>(head.plan.queries);
  const int8_t* row = head.task.query + first * stride;
  for (int r = 0; r < rows; ++r, to += depth, row += stride) {
    Product::ShiftRow(row, size, zero_point, to);
    for (int d = size; d < depth; ++d) to[d] = 0;
  }
  // As many more as a tile may have.
  if (rows == kQueryRows) return;
  memset(to, 0, (kQueryRows - rows) * depth * sizeof(Element));
}

void PackQueries(const Head& head, int first, int rows) {
  if (head.head_size == 64) {
    PackQueries<64>(head, first, rows);
  } else if (head.head_size == 32) {
    PackQueries<32>(head, first, rows);
  } else {
    PackQueries<0>(head, first, rows);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_PACK_VECTOR_H_
