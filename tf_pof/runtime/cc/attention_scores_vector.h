// Scores of attention over the vectors of one instruction set: integer products
// of queries and keys.
#ifndef TF_POF_RUNTIME_CC_ATTENTION_SCORES_VECTOR_H_
#define TF_POF_RUNTIME_CC_ATTENTION_SCORES_VECTOR_H_

#include <float.h>

#include "attention_pack_vector.h"

namespace tf_pof {
namespace {

// Adds the dot products of a group of 4 bytes of each row of `shared` and a
// vector after the other of `own`.
template <typename Product, int kRows, int kVectors>
TF_POF_INLINE void AddProduct(const uint8_t* shared, size_t shared_stride,
                              const uint8_t* own,
                              typename Product::Sums (&sums)[kRows][kVectors]) {
  typename Product::Own values[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) values[v] = Product::LoadOwn(own + v * 64);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const auto group = Product::LoadShared(shared + r * shared_stride);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Product::Dot(group, values[v], &sums[r][v]);
    }
  }
}

// The same of `groups`, which follow each other in `shared`.
template <typename Product, int kRows, int kVectors>
TF_POF_INLINE void AddProducts(
    const uint8_t* shared, size_t shared_stride, const uint8_t* own,
    size_t own_stride, int groups,
    typename Product::Sums (&sums)[kRows][kVectors]) {
#if defined(TF_POF_PINS_LOOPS)
  if constexpr (Product::PinsLoop(kRows, kVectors)) {
    Product::AddProducts(shared, shared_stride, own, own_stride, groups, sums);
    return;
  }
#endif
  for (const uint8_t* end = shared + 4 * groups; shared != end;
       shared += 4, own += own_stride) {
    AddProduct<Product, kRows, kVectors>(shared, shared_stride, own, sums);
  }
}

// What is known of a query.
struct QueryRow {
  Vector::Float highest;  // score, in all lanes
  Vector::Int sum;        // of the weights of a block of keys
};

// What scores are made of.
struct Scores {
  const uint8_t* queries;
  const uint8_t* keys;
  const int32_t* corrections;
  const float* mask;
  float* scores;  // [rows][stride]
  size_t depth;   // bytes of a query
  size_t stride;  // keys
  int vectors;    // of keys
  int groups;
  float scale;
  QueryRow* states;
};

// Scores of kRows queries and kVectors of keys.
template <int kRows, int kVectors>
TF_POF_INLINE void ScoreTile(const Scores& all, int row, int first,
                             const Vector::Float& scale,
                             Vector::Float (&most)[kRows]) {
  using Product = Vector::Scores;
  typename Product::Sums sums[kRows][kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const Vector::Int correction =
        Vector::LoadInt(all.corrections + (first + v) * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r][v] = Product::Start(correction);
  }
  AddProducts<Product, kRows, kVectors>(all.queries + row * all.depth,
                                        all.depth, all.keys + first * 64,
                                        all.stride * 4, all.groups, sums);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int at = (first + v) * kLanes;
    const Vector::Float mask = Vector::Load(all.mask + at);
    float* to = all.scores + row * all.stride + at;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Vector::Float score =
          Vector::Fma(Vector::ToFloat(Product::Total(sums[r][v])), scale, mask);
      Vector::Store(to + r * all.stride, score);
      most[r] = Vector::Max(score, most[r]);
    }
  }
}

// Scores of kRows queries. Not inlined, and with a copy that nothing else
// points to, so that pointers stay in registers.
template <int kRows>
__attribute__((noinline)) void ScoreRows(const Scores& scores, int row) {
  const Scores all = scores;
  constexpr int kMost = Vector::Scores::kVectors;
  const Vector::Float scale = Vector::Set(all.scale);
  Vector::Float most[kRows];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) most[r] = Vector::Set(-FLT_MAX);
  int first = 0;
  for (; first + kMost <= all.vectors; first += kMost) {
    ScoreTile<kRows, kMost>(all, row, first, scale, most);
  }
  // There are two more, as vectors come in pairs.
  if (first < all.vectors) {
    ScoreTile<kRows, Min(kMost, 2)>(all, row, first, scale, most);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    all.states[row + r].highest = Vector::Set(Vector::Highest(most[r]));
  }
}

// Writes scores, and the highest of each row.
void Score(const Head& head, int rows, QueryRow* states) {
  using Product = Vector::Scores;
  constexpr int kRows = Product::Rows(Product::kVectors);
  static_assert(kQueryRows % kRows == 0);
  const AttentionScratch& plan = head.plan;
  const Scores all = {head.at<const uint8_t>(plan.queries),
                      head.at<const uint8_t>(plan.key_tile),
                      head.at<const int32_t>(plan.corrections),
                      head.at<const float>(plan.mask),
                      head.at<float>(plan.scores),
                      plan.depth * sizeof(typename Product::SharedElement),
                      static_cast<size_t>(plan.keys),
                      CeilDiv(head.keys, kPairKeys) * 2,
                      plan.depth / Product::kSize,
                      head.score_scale(),
                      states};
  for (int row = 0; row < rows; row += kRows) ScoreRows<kRows>(all, row);
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_ATTENTION_SCORES_VECTOR_H_
