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

// Of the polynomial 65534 * 2^-fraction, which is within 2; and 1.
constexpr uint16_t kTerms[] = {449, 3494, 15698, 45419, 65533, 1};

#if defined(TF_POF_WEIGHS)

using Weigher = Vector::Weigher;

#else

// Makes weights of the scores of two vectors, and adds them to `sums`:
// round(32767 * 2^-x) of x = most - score, 0 from 16 on.
struct Weigher {
  explicit Weigher(const uint16_t (&)[6]) {}

  __attribute__((always_inline)) void operator()(const float* scores,
                                                 const Vector::Float* most,
                                                 int16_t* weights,
                                                 Vector::Int* sums) const {
    const Vector::Int a =
        Vector::ToFixed(Vector::Sub(*most, Vector::Load(scores)));
    const Vector::Int b =
        Vector::ToFixed(Vector::Sub(*most, Vector::Load(scores + kLanes)));
    const Vector::Short fraction = Vector::LowHalves(a, b);
    Vector::Short y = Vector::SetShort(kTerms[0]);
#pragma GCC unroll 4
    for (int i = 1; i < 5; ++i) {
      y = Vector::SubShort(Vector::SetShort(kTerms[i]),
                           Vector::MulHigh(y, fraction));
    }
    y = Vector::Halve(Vector::ShiftRight(y, Vector::HighHalves(a, b)));
    Vector::StoreShort(weights, y);
    *sums = Vector::AddPairs(*sums, y);
  }
};

#endif

// What tiles of values are made of: up to kWeightKeys keys.
struct Values {
  // [rows][stride]; weights, of 16 bits, take the place of their row's scores.
  float* scores;
  const uint8_t* values;
  int rows;
  int keys;
  size_t stride;
  size_t channels;  // of values, bytes of a group
  QueryRow* row_states;
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
  const Weigher weigher(kTerms);
  const auto weigh = [&all, stride, weigher](
                         int r, int k) __attribute__((always_inline)) {
    float* scores = all.scores + r * stride;
    QueryRow* state = all.row_states + r;
    weigher(scores + k, &state->highest, reinterpret_cast<int16_t*>(scores) + k,
            &state->sum);
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
      reinterpret_cast<const uint8_t*>(all.scores + row * stride);
  const size_t weights_stride = stride * sizeof(float);
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
  bool is_whole;  // the first, the last, and vectors are full of channels
  const Quantizer* quantizer;
  float step;
  float offset;

  // Rounds the sums of all keys, whose weights' sum is `total`.
  template <int kVectors>
  __attribute__((always_inline)) void Round(
      const Quantizer& quantize, const Vector::Float (&values)[kVectors],
      const Vector::Float& total, Vector::Int (&rounded)[kVectors]) const {
    const Vector::Float scale = Vector::Div(Vector::Set(step), total);
    const Vector::Float start = Vector::Set(offset);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      rounded[v] = quantize(Vector::Fma(values[v], scale, start));
    }
  }
};

template <int kVectors>
TF_POF_INLINE void StoreRounded(const Vector::Int (&rounded)[kVectors],
                                int8_t* to) {
  if constexpr (kVectors == 4) {
    Vector::StoreInt8(to, rounded);
  } else {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Vector::StoreInt8(to + v * kLanes, rounded[v]);
    }
  }
}

// Adds the sums of vectors from channel `at` on to those of blocks before, and
// rounds them after the last block, as far as there are channels.
template <int kVectors>
__attribute__((noinline)) void TakeRow(const Context& context,
                                       const Vector::Int* sums, int row,
                                       int at) {
  Vector::Float values[kVectors];
  float* before = context.sums + row * context.stride + at;
  for (int v = 0; v < kVectors; ++v) {
    values[v] = Vector::ToFloat(sums[v]);
    if (!context.is_first) {
      values[v] = Vector::Add(Vector::Load(before + v * kLanes), values[v]);
    }
    if (!context.is_last) Vector::Store(before + v * kLanes, values[v]);
  }
  if (!context.is_last) return;
  Vector::Int rounded[kVectors];
  const Vector::Float total =
      Vector::Set(static_cast<float>(context.totals[row]));
  context.Round(*context.quantizer, values, total, rounded);
  int8_t* to = context.output + row * context.output_stride + at;
  const int left = context.channels - at;
  if (left >= kVectors * kLanes) {
    StoreRounded(rounded, to);
    return;
  }
  int8_t last[kVectors * kLanes];
  StoreRounded(rounded, last);
  memcpy(to, last, left);
}

// The output of kRows queries and kVectors of channels.
template <int kRows, int kVectors>
__attribute__((noinline)) void ValueTile(const Values& values,
                                         const Context& context, int row,
                                         int first) {
  using Product = Vector::Pairs;
  const Values all = values;
  typename Product::Sums sums[kRows][kVectors];
  if (first == 0) {
    AddValues<kRows, kVectors, true>(all, row, first, sums);
  } else {
    AddValues<kRows, kVectors, false>(all, row, first, sums);
  }
  const int at = first * kLanes;
  // Without branches what is most frequent: one block of keys, whole tiles.
  if (context.is_whole && row + kRows <= context.rows) {
    const Context copy = context;
    const Quantizer quantize = *context.quantizer;
    int8_t* to = copy.output + row * copy.output_stride + at;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r, to += copy.output_stride) {
      Vector::Float floats[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        floats[v] = Vector::ToFloat(Product::Total(sums[r][v]));
      }
      Vector::Int rounded[kVectors];
      copy.Round(quantize, floats,
                 Vector::ToFloat(Vector::SumOfAll(all.row_states[row + r].sum)),
                 rounded);
      StoreRounded(rounded, to);
    }
    return;
  }
  Vector::Int kept[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      kept[r][v] = Product::Total(sums[r][v]);
    }
  }
  const int rows = Min(kRows, context.rows - row);
  for (int r = 0; r < rows; ++r) {
    if (context.is_whole || first == 0) {
      context.totals[row + r] =
          Vector::SumInt(all.row_states[row + r].sum) +
          (context.is_first ? 0 : context.totals[row + r]);
    }
    TakeRow<kVectors>(context, kept[r], row + r, at);
  }
}

// Turns scores into weights and writes the output of queries from `query` on.
void WeighValues(const Head& head, int query, int rows, QueryRow* states) {
  using Product = Vector::Pairs;
  const AttentionScratch& plan = head.plan;
  const TfPofAttentionParams& p = *head.task.params;
  int64_t totals[kQueryRows];
  const Quantizer quantizer(p.output.zero_point);
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
                     false,
                     &quantizer,
                     step,
                     static_cast<float>(-p.value.zero_point) * step};
  for (int block = 0; block < head.keys; block += kWeightKeys) {
#pragma GCC unroll 12
    for (int r = 0; r < kQueryRows; ++r) states[r].sum = Vector::SetInt(0);
    const size_t channels = static_cast<size_t>(plan.channels) * 4;
    const Values all = {
        head.at<float>(plan.scores) + block,
        head.at<const uint8_t>(plan.value_tile) + block / 2 * channels,
        rows,
        Min(head.keys - block, kWeightKeys),
        static_cast<size_t>(plan.keys),
        channels,
        states};
    context.is_first = block == 0;
    context.is_last = head.keys - block <= kWeightKeys;
    context.is_whole =
        context.is_first && context.is_last && plan.channels == head.head_size;
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
    QueryRow states[kQueryRows];
#pragma GCC unroll 12
    for (auto& state : states) state.highest = Vector::Set(0.0f);
    PackQueries(head, first, rows);
    Score(head, rows, states);
    if (task.ticks != nullptr) AddTicks(&task.ticks->scores, &now);
    WeighValues(head, first, rows, states);
    if (task.ticks != nullptr) AddTicks(&task.ticks->values, &now);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_VECTOR_H_
