// Attention of one head over the vectors of one instruction set.
//
// Keys and values are packed once a head; then each block of kQueryRows
// queries takes two steps in L1: integer scores, and integer sums of values
// weighed by softmax, whose weights are 15-bit integers. Only single operations
// on floats are left, so that no order of sums matters. Weights are made just
// before they are used, in the shadow of the products before.
#ifndef TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_
#define TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_

#include "attention_scores_vector.h"
#include "ticks.h"

namespace tf_pof {
namespace {

// A sum of this many weights times values cannot overflow.
constexpr int kWeightKeys = 512;

template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

// Calls tile(Count<vectors>, row, first) for all tiles of `rows`, rounded up,
// by `vectors`.
template <typename Product, typename Tile>
TF_POF_INLINE void ForTiles(int rows, int vectors, const Tile& tile) {
  constexpr int kMost = Product::kVectors;
  const auto column = [&](auto count,
                          int first) __attribute__((always_inline)) {
    constexpr int kRows = Product::Rows(decltype(count)::value);
    static_assert(kQueryRows % kRows == 0);
    for (int row = 0; row < rows; row += kRows) tile(count, row, first);
  };
  for (int first = 0; first < vectors; first += kMost) {
    const int left = vectors - first;
    if (left >= kMost) {
      column(Count<kMost>(), first);
    } else if (left == 3) {
      column(Count < kMost<3 ? kMost : 3>(), first);
    } else if (left == 2) {
      column(Count < kMost<2 ? kMost : 2>(), first);
    } else {
      column(Count<1>(), first);
    }
  }
}

// round(32767 * 2^-x) of two vectors x = most - score: 0 from 16 on. The
// polynomial is 65534 * 2^-fraction, within 2.
TF_POF_INLINE Vector::Short Weigh(const float* scores,
                                  const Vector::Float& most) {
  const Vector::Int a =
      Vector::ToFixed(Vector::Sub(most, Vector::Load(scores)));
  const Vector::Int b =
      Vector::ToFixed(Vector::Sub(most, Vector::Load(scores + kLanes)));
  const Vector::Short fraction = Vector::LowHalves(a, b);
  Vector::Short y = Vector::SetShort(449);
  y = Vector::SubShort(Vector::SetShort(3494), Vector::MulHigh(y, fraction));
  y = Vector::SubShort(Vector::SetShort(15698), Vector::MulHigh(y, fraction));
  y = Vector::SubShort(Vector::SetShort(45419), Vector::MulHigh(y, fraction));
  y = Vector::SubShort(Vector::SetShort(65533), Vector::MulHigh(y, fraction));
  return Vector::Halve(Vector::ShiftRight(y, Vector::HighHalves(a, b)));
}

// What tiles of values are made of: up to kWeightKeys keys.
struct Values {
  const float* scores;  // [rows][stride]
  int16_t* weights;     // the same
  const uint8_t* values;
  int rows;
  int keys;
  size_t stride;
  size_t channels;            // of values, bytes of a group
  const Vector::Float* most;  // score in all lanes, by row
  Vector::Int* sums;          // of the weights
};

// Products of the weights of kRows queries and kVectors of the values. If
// kWeigh, weights are made on the way, two vectors ahead of their use: those
// that begin the next tile's rows at last.
template <int kRows, int kVectors, bool kWeigh>
TF_POF_INLINE void AddValues(
    const Values& all, int row, int first,
    typename Vector::Pairs::Sums (&sums)[kRows][kVectors]) {
  using Product = Vector::Pairs;
  const size_t stride = all.stride;
  const int keys = all.keys;
  const size_t channels = all.channels;
  const auto weigh = [&](int r, int k) __attribute__((always_inline)) {
    const Vector::Short weight =
        Weigh(all.scores + r * stride + k, all.most[r]);
    Vector::StoreShort(all.weights + r * stride + k, weight);
    all.sums[r] = Vector::AddPairs(all.sums[r], weight);
  };
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = Product::Start(Vector::SetInt(0));
    }
  }
  const bool is_last = !kWeigh || row + kRows >= all.rows;
  if (kWeigh && row == 0) {
    for (int r = 0; r < kRows; ++r) weigh(r, 0);
  }
  const auto* weights =
      reinterpret_cast<const uint8_t*>(all.weights + row * stride);
  const size_t weights_stride = stride * sizeof(int16_t);
  const uint8_t* own = all.values + first * 64;
  int k = 0;
  for (; keys - k >= kLanes; k += kPairKeys) {
    const bool inside = k + kPairKeys < keys;
    const bool ahead = kWeigh && (inside || !is_last);
    const int ahead_row = inside ? row : row + kRows;
    const int ahead_k = inside ? k + kPairKeys : 0;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      if (ahead) weigh(ahead_row + r, ahead_k);
      const int end = (r + 1) * kLanes / kRows;
#pragma GCC unroll 16
      for (int i = r * kLanes / kRows; i < end; ++i) {
        AddProduct<Product, kRows, kVectors>(weights, weights_stride, own,
                                             sums);
        weights += 4;
        own += channels;
      }
    }
  }
  if (k >= keys) return;
  AddProducts<Product, kRows, kVectors>(weights, weights_stride, own, channels,
                                        keys - k, sums);
  if (!is_last) {
    for (int r = 0; r < kRows; ++r) weigh(row + kRows + r, 0);
  }
}

// What is done with the sums of a block of keys.
struct Context {
  float* sums;      // [rows][stride] of the blocks before
  int64_t* totals;  // of the weights, by row
  int8_t* output;   // of the first row
  size_t stride;
  size_t output_stride;
  int rows;
  int channels;
  bool is_first;
  bool is_last;
  Quantizer quantize;
  float step;
  float offset;

  // Adds the sums of vectors from channel `at` on, or rounds them after the
  // last block.
  template <int kVectors>
  __attribute__((always_inline)) void Take(Vector::Float (&values)[kVectors],
                                           int row, int at) const {
    float* before = sums + row * stride + at;
    if (!is_first) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        values[v] = Vector::Add(Vector::Load(before + v * kLanes), values[v]);
      }
    }
    if (!is_last) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Vector::Store(before + v * kLanes, values[v]);
      }
      return;
    }
    if (row >= rows) return;
    const Vector::Float scale =
        Vector::Set(step / static_cast<float>(totals[row]));
    const Vector::Float start = Vector::Set(offset);
    Vector::Int rounded[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      rounded[v] = quantize(Vector::Fma(values[v], scale, start));
    }
    int8_t* to = output + row * output_stride + at;
    const int left = channels - at;
    if (left < kVectors * kLanes) {
      int8_t last[kVectors * kLanes];
      for (int v = 0; v < kVectors; ++v) {
        Vector::StoreInt8(last + v * kLanes, rounded[v]);
      }
      memcpy(to, last, left);
    } else if constexpr (kVectors == 4) {
      Vector::StoreInt8(to, rounded);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Vector::StoreInt8(to + v * kLanes, rounded[v]);
      }
    }
  }
};

// The output of kRows queries and kVectors of channels.
template <int kRows, int kVectors>
__attribute__((noinline)) void ValueTile(const Values& all,
                                         const Context& context, int row,
                                         int first) {
  using Product = Vector::Pairs;
  typename Product::Sums sums[kRows][kVectors];
  if (first == 0) {
    AddValues<kRows, kVectors, true>(all, row, first, sums);
    for (int r = row; r < row + kRows; ++r) {
      context.totals[r] += Vector::SumInt(all.sums[r]);
    }
  } else {
    AddValues<kRows, kVectors, false>(all, row, first, sums);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    Vector::Float values[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      values[v] = Vector::ToFloat(Product::Total(sums[r][v]));
    }
    context.Take(values, row + r, first * kLanes);
  }
}

// Turns scores into weights and writes the output of queries from `query` on.
void WeighValues(const Head& head, int query, int rows,
                 const Vector::Float* highest) {
  using Product = Vector::Pairs;
  const AttentionScratch& plan = head.plan;
  const TfPofAttentionParams& p = *head.task.params;
  int64_t totals[kQueryRows] = {};
  const float step = p.value.scale / p.output.scale;
  Context context = {head.at<float>(plan.context),
                     totals,
                     head.task.output + query * head.stride,
                     static_cast<size_t>(plan.channels),
                     head.stride,
                     rows,
                     head.head_size,
                     false,
                     false,
                     Quantizer(p.output.zero_point),
                     step,
                     static_cast<float>(-p.value.zero_point) * step};
  for (int block = 0; block < head.keys; block += kWeightKeys) {
    Vector::Int sums[kQueryRows];
    for (auto& sum : sums) sum = Vector::SetInt(0);
    const size_t channels = static_cast<size_t>(plan.channels) * 4;
    const Values all = {
        head.at<const float>(plan.scores) + block,
        head.at<int16_t>(plan.weights) + block,
        head.at<const uint8_t>(plan.value_tile) + block / 2 * channels,
        rows,
        Min(head.keys - block, kWeightKeys),
        static_cast<size_t>(plan.keys),
        channels,
        highest,
        sums};
    context.is_first = block == 0;
    context.is_last = head.keys - block <= kWeightKeys;
    ForTiles<Product>(rows, plan.channels / kLanes,
                      [&](auto count, int row, int first)
                          __attribute__((always_inline)) {
                            constexpr int kVectors = decltype(count)::value;
                            ValueTile<Product::Rows(kVectors), kVectors>(
                                all, context, row, first);
                          });
  }
}

// Adds the time since `*now`, which becomes the present.
void AddTicks(int64_t* sum, int64_t* now) {
  const int64_t before = *now;
  *now = Ticks();
  *sum += *now - before;
}

void Attention(const AttentionTask& task) {
  Head head(task);
  head.keys = CountKeys(head);
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
    Vector::Float highest[kQueryRows] = {};
    PackQueries(head, first, rows);
    Score(head, rows, highest);
    if (task.ticks != nullptr) AddTicks(&task.ticks->scores, &now);
    WeighValues(head, first, rows, highest);
    if (task.ticks != nullptr) AddTicks(&task.ticks->values, &now);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_
