// Attention of one head over the vectors of one instruction set.
//
// Keys and values are packed once a head; then each block of kQueryRows
// queries takes four steps in L1: integer scores, their softmax as 15-bit
// integers, integer sums of values, and rounding. Only single operations on
// floats are left, so that no order of sums matters.
#ifndef TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_
#define TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_

#include <float.h>
#include <math.h>
#include <string.h>

#include "attention.h"
#include "buffer.h"
#include "quantize_vector.h"
#include "ticks.h"
#include "transformer_kernel.h"

namespace tf_pof {
namespace {

// A sum of this many weights times values cannot overflow.
constexpr int kWeightKeys = 512;
constexpr float kWeightOne = 32767.0f;
constexpr float kLog2E = 1.44269504f;

template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

// kVectors vectors by Product::kRows rows of a matrix product: of start(row,
// vector) plus dot products, result(row, vectors) gets each row. `shared` has
// a group of 4 bytes after the other in each row, `own` a vector after the
// other in each group.
template <typename Product, int kVectors, typename Start, typename Result>
TF_POF_INLINE void MultiplyTile(const uint8_t* shared, size_t shared_stride,
                                const uint8_t* own, size_t own_stride,
                                int groups, const Start& start,
                                const Result& result) {
  constexpr int kRows = Product::kRows;
  typename Product::Sums sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Product::Start(start(r, v));
  }
  for (int g = 0; g < groups; ++g, shared += 4, own += own_stride) {
    typename Product::Own values[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      values[v] = Product::LoadOwn(own + v * 64);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto group = Product::LoadShared(shared + r * shared_stride);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Product::Dot(group, values[v], &sums[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    Vector::Int totals[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) totals[v] = Product::Total(sums[r][v]);
    result(r, totals);
  }
}

// The same for any number of rows, rounded up, and of vectors.
template <typename Product, typename Start, typename Result>
TF_POF_INLINE void Multiply(int rows, const uint8_t* shared,
                            size_t shared_stride, int vectors,
                            const uint8_t* own, size_t own_stride, int groups,
                            const Start& start, const Result& result) {
  constexpr int kMost = Product::kVectors;
  for (int first = 0; first < vectors; first += kMost) {
    for (int row = 0; row < rows; row += Product::kRows) {
      const auto tile = [&](auto count) __attribute__((always_inline)) {
        constexpr int kVectors = decltype(count)::value;
        MultiplyTile<Product, kVectors>(
            shared + row * shared_stride, shared_stride, own + first * 64,
            own_stride, groups,
            [&](int r, int v) __attribute__((always_inline)) {
              return start(row + r, first + v);
            },
            [&](int r, const Vector::Int(&totals)[kVectors]) __attribute__((
                always_inline)) { result(row + r, first, totals); });
      };
      const int left = vectors - first;
      if (left >= kMost) {
        tile(Count<kMost>());
      } else if (left == 3) {
        tile(Count < kMost<3 ? kMost : 3>());
      } else if (left == 2) {
        tile(Count < kMost<2 ? kMost : 2>());
      } else {
        tile(Count<1>());
      }
    }
  }
}

// Pointers into the scratch memory of a task.
struct Head {
  const AttentionTask& task;
  AttentionScratch plan;
  int head_size;
  size_t stride;

  explicit Head(const AttentionTask& task)
      : task(task),
        plan(PlanAttention(task.sequence, task.params->head_size)),
        head_size(task.params->head_size),
        stride(static_cast<size_t>(head_size) * task.params->num_heads) {}

  template <typename T>
  T* at(size_t offset) const {
    return reinterpret_cast<T*>(task.scratch + offset);
  }
};

// Products are sum((query + shift) * key) + correction of the key + constant
// of the query, where shift makes queries fit their type.
void PackKeys(const Head& head) {
  using Product = Vector::Scores;
  using Element = typename Product::OwnElement;
  constexpr int kSize = Product::kSize;
  const int keys = head.plan.keys;
  const int groups = head.plan.depth / kSize;
  auto* tile = head.at<Element>(head.plan.key_tile);
  const size_t row_size = static_cast<size_t>(keys) * kSize;
  for (int k = 0; k < keys; ++k) {
    const int8_t* row = head.task.key + k * head.stride;
    const int size = k < head.task.sequence ? head.head_size : 0;
    const int whole = size / kSize;
    Element* to = tile + k * kSize;
    for (int g = 0; g < whole; ++g, to += row_size, row += kSize) {
      for (int i = 0; i < kSize; ++i) to[i] = row[i];
    }
    for (int g = whole; g < groups; ++g, to += row_size) {
      for (int i = 0; i < kSize; ++i) {
        to[i] = g * kSize + i < size ? *row++ : 0;
      }
    }
  }

  const int zero_point = head.task.params->query.zero_point;
  const int factor = -(Product::Shift(zero_point) + zero_point);
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
    Vector::StoreInt(corrections + k, Product::Total(sums));
  }
  for (int k = 0; k < keys; ++k) corrections[k] *= factor;
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

void PackValues(const Head& head) {
  const int channels = head.plan.channels;
  auto* to = head.at<int16_t>(head.plan.value_tile);
  for (int k = 0; k < head.plan.keys; k += 2, to += 2 * channels) {
    const int8_t* row = head.task.value + k * head.stride;
    if (k + 1 < head.task.sequence) {
      PackPairs(row, row + head.stride, head.head_size, channels, to);
    } else {
      // Weights of keys after the sequence are zero.
      const int size = k < head.task.sequence ? head.head_size : 0;
      PackPairs(row, row, size, channels, to);
    }
  }
}

// In units of log(2), as the scores are.
void PackMask(const Head& head) {
  constexpr float kMost = 1e38f;
  auto* to = head.at<float>(head.plan.mask);
  for (int k = 0; k < head.plan.keys; ++k) {
    float mask = 0.0f;
    if (k >= head.task.sequence) {
      mask = -INFINITY;
    } else if (head.task.mask != nullptr) {
      mask = Max(-kMost, Min(kMost, head.task.mask[k])) * kLog2E;
    }
    to[k] = mask;
  }
}

// Packs queries from `first` on; writes the constant of each.
void PackQueries(const Head& head, int first, int rows, int32_t* constants) {
  using Product = Vector::Scores;
  using Element = typename Product::SharedElement;
  const int depth = head.plan.depth;
  const int zero_point = head.task.params->query.zero_point;
  const int shift = Product::Shift(zero_point);
  auto* to = head.at<Element>(head.plan.queries);
  for (int r = 0; r < kQueryRows; ++r, to += depth) {
    const int8_t* row = head.task.query + (first + r) * head.stride;
    const int size = r < rows ? head.head_size : 0;
    int sum = -zero_point * size;
    for (int d = 0; d < size; ++d) sum += row[d];
    for (int d = 0; d < size; ++d) {
      to[d] = static_cast<Element>(row[d] + shift);
    }
    for (int d = size; d < depth; ++d) to[d] = 0;
    constants[r] = -head.task.params->key.zero_point * sum;
  }
}

// Writes scores in units of log(2), and the highest in each lane.
void Score(const Head& head, int rows, const int32_t* constants,
           Vector::Float* highest) {
  const TfPofAttentionParams& params = *head.task.params;
  const AttentionScratch& plan = head.plan;
  using Product = Vector::Scores;
  using Element = typename Product::SharedElement;
  const Vector::Float scale = Vector::Set(
      params.query.scale * params.key.scale * params.score_scale * kLog2E);
  const auto* mask = head.at<const float>(plan.mask);
  const auto* corrections = head.at<const int32_t>(plan.corrections);
  auto* scores = head.at<float>(plan.scores);
  const size_t keys = plan.keys;
  for (int r = 0; r < kQueryRows; ++r) highest[r] = Vector::Set(-FLT_MAX);
  Multiply<Product>(
      rows, head.at<const uint8_t>(plan.queries), plan.depth * sizeof(Element),
      plan.keys / kLanes, head.at<const uint8_t>(plan.key_tile),
      static_cast<size_t>(plan.keys) * 4, plan.depth / Product::kSize,
      [=](int r, int v) __attribute__((always_inline)) {
        return Vector::AddInt(Vector::LoadInt(corrections + v * kLanes),
                              Vector::SetInt(constants[r]));
      },
      [=](int r, int first, const auto& totals) __attribute__((always_inline)) {
        Vector::Float most = highest[r];
        int at = first * kLanes;
        for (const Vector::Int& total : totals) {
          const Vector::Float score = Vector::Fma(Vector::ToFloat(total), scale,
                                                  Vector::Load(mask + at));
          Vector::Store(scores + r * keys + at, score);
          most = Vector::Max(score, most);
          at += kLanes;
        }
        highest[r] = most;
      });
}

// round(kWeightOne * 2^x) for x <= 0: 0 below -16, as it would be anyway.
// The polynomial is 2^r within 1e-7 for r in [-0.5, 0.5].
TF_POF_INLINE Vector::Int Weight(const Vector::Float& x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
  const Vector::Float clamped = Vector::Max(x, Vector::Set(-20.0f));
  const Vector::Float shifted = Vector::Add(clamped, Vector::Set(kRounder));
  const Vector::Float power = Vector::Sub(shifted, Vector::Set(kRounder));
  const Vector::Float r = Vector::Sub(clamped, power);
  Vector::Float y = Vector::Set(kWeightOne * 1.32647202e-3f);
  y = Vector::Fma(y, r, Vector::Set(kWeightOne * 9.67151314e-3f));
  y = Vector::Fma(y, r, Vector::Set(kWeightOne * 5.55073377e-2f));
  y = Vector::Fma(y, r, Vector::Set(kWeightOne * 2.40222421e-1f));
  y = Vector::Fma(y, r, Vector::Set(kWeightOne * 6.93146978e-1f));
  y = Vector::Fma(y, r, Vector::Set(kWeightOne));
  return Vector::Round(Vector::ScaleByPower(y, shifted));
}

// Turns scores into weights; returns their sum.
int64_t Softmax(const Head& head, int row, const Vector::Float& highest) {
  const int keys = head.plan.keys;
  const size_t start = static_cast<size_t>(row) * keys;
  const float* scores = head.at<const float>(head.plan.scores) + start;
  int16_t* weights = head.at<int16_t>(head.plan.weights) + start;
  const Vector::Float most = Vector::Set(Vector::Highest(highest));
  int64_t sum = 0;
  for (int block = 0; block < keys; block += kWeightKeys) {
    const int end = Min(keys, block + kWeightKeys);
    Vector::Int sums = Vector::SetInt(0);
    for (int k = block; k < end; k += kLanes) {
      const Vector::Int weight =
          Weight(Vector::Sub(Vector::Load(scores + k), most));
      Vector::StoreInt16(weights + k, weight);
      sums = Vector::AddInt(sums, weight);
    }
    sum += Vector::SumInt(sums);
  }
  return sum;
}

// Writes sums of weights times values, of kWeightKeys keys at a time.
void WeighValues(const Head& head, int rows) {
  const AttentionScratch& plan = head.plan;
  auto* context = head.at<float>(plan.context);
  const size_t channels = plan.channels;
  const size_t own_stride = channels * 4;
  for (int block = 0; block < plan.keys; block += kWeightKeys) {
    Multiply<Vector::Pairs>(
        rows, head.at<const uint8_t>(plan.weights) + block * sizeof(int16_t),
        plan.keys * sizeof(int16_t), plan.channels / kLanes,
        head.at<const uint8_t>(plan.value_tile) + block / 2 * own_stride,
        own_stride, Min(plan.keys - block, kWeightKeys) / 2,
        [](int, int)
            __attribute__((always_inline)) { return Vector::SetInt(0); },
        [=](int r, int first, const auto& totals)
            __attribute__((always_inline)) {
              float* to = context + r * channels + first * kLanes;
              for (const Vector::Int& total : totals) {
                Vector::Float sum = Vector::ToFloat(total);
                if (block > 0) sum = Vector::Add(Vector::Load(to), sum);
                Vector::Store(to, sum);
                to += kLanes;
              }
            });
  }
}

// Divides sums by those of the weights and rounds.
void Finish(const Head& head, int first, int rows, const int64_t* sums) {
  const TfPofAttentionParams& params = *head.task.params;
  const float step = params.value.scale / params.output.scale;
  const Vector::Float offset =
      Vector::Set(static_cast<float>(-params.value.zero_point) * step);
  const Quantizer quantize(params.output.zero_point);
  for (int r = 0; r < rows; ++r) {
    const Vector::Float scale = Vector::Set(step / static_cast<float>(sums[r]));
    const float* from = head.at<const float>(head.plan.context) +
                        static_cast<size_t>(r) * head.plan.channels;
    int8_t* to = head.task.output + (first + r) * head.stride;
    for (int d = 0; d < head.head_size; d += kLanes) {
      const Vector::Int rounded =
          quantize(Vector::Fma(Vector::Load(from + d), scale, offset));
      if (d + kLanes <= head.head_size) {
        Vector::StoreInt8(to + d, rounded);
      } else {
        int8_t last[kLanes];
        Vector::StoreInt8(last, rounded);
        memcpy(to + d, last, head.head_size - d);
      }
    }
  }
}

// Adds the time since `*now`, which becomes the present.
void AddTicks(int64_t* sum, int64_t* now) {
  const int64_t before = *now;
  *now = Ticks();
  *sum += *now - before;
}

void Attention(const AttentionTask& task) {
  const Head head(task);
  int64_t now = task.ticks == nullptr ? 0 : Ticks();
  if (!task.packed) {
    PackKeys(head);
    PackValues(head);
    PackMask(head);
    if (task.ticks != nullptr) AddTicks(&task.ticks->packing, &now);
  }
  for (int first = task.query_begin; first < task.query_end;
       first += kQueryRows) {
    const int rows = Min(kQueryRows, task.query_end - first);
    int32_t constants[kQueryRows];
    int64_t sums[kQueryRows];
    Vector::Float highest[kQueryRows];
    PackQueries(head, first, rows, constants);
    Score(head, rows, constants, highest);
    if (task.ticks != nullptr) AddTicks(&task.ticks->scores, &now);
    for (int r = 0; r < rows; ++r) sums[r] = Softmax(head, r, highest[r]);
    WeighValues(head, rows);
    Finish(head, first, rows, sums);
    if (task.ticks != nullptr) AddTicks(&task.ticks->values, &now);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_
