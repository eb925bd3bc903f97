// Layer norm over the vectors of one instruction set.
#ifndef TF_POF_RUNTIME_CC_LAYER_NORM_VECTOR_H_
#define TF_POF_RUNTIME_CC_LAYER_NORM_VECTOR_H_

#include <math.h>
#include <string.h>

#include "buffer.h"
#include "quantize_vector.h"
#include "transformer_kernel.h"

namespace tf_pof {
namespace {

// Sums have this many parts, so that one addition need not wait for another.
constexpr int kParts = 4;
constexpr int kChunk = kParts * kLanes;

// The sum of function(i) of each vector of the row, which is whole chunks.
template <typename Function>
TF_POF_INLINE float SumRow(int size, const Function& function) {
  Vector::Float parts[kParts];
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) parts[p] = Vector::Set(0.0f);
  for (int i = 0; i < size; i += kChunk) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      parts[p] = function(parts[p], i + p * kLanes);
    }
  }
  return Vector::Sum(Vector::Add(Vector::Add(parts[0], parts[1]),
                                 Vector::Add(parts[2], parts[3])));
}

// Writes values after the row, up to a whole chunk.
void Pad(float value, int channels, float* row) {
  const int size = CeilDiv(channels, kChunk) * kChunk;
  for (int i = channels; i < size; ++i) row[i] = value;
}

// Sum of a row that has room for whole chunks.
float Sum(int channels, float* row) {
  if (channels % kChunk != 0) Pad(0.0f, channels, row);
  return SumRow(channels, [=](const Vector::Float& part, int i)
                              __attribute__((always_inline)) {
                                return Vector::Add(part, Vector::Load(row + i));
                              });
}

// Sum of (row - mean)^2.
TF_POF_INLINE float SumSquares(int channels, float mean, float* row) {
  if (channels % kChunk != 0) Pad(mean, channels, row);
  const Vector::Float means = Vector::Set(mean);
  return SumRow(channels, [=](const Vector::Float& part,
                              int i) __attribute__((always_inline)) {
    const Vector::Float x = Vector::Sub(Vector::Load(row + i), means);
    return Vector::Fma(x, x, part);
  });
}

// What is the same for all rows.
struct Finisher {
  int channels;
  const float* gamma;
  const float* beta;
  Quantizer quantize;
  Vector::Float steps;

  explicit Finisher(const TfPofLayerNormParams& params)
      : channels(params.channels),
        gamma(params.gamma),
        beta(params.beta),
        quantize(params.output.zero_point),
        steps(Vector::Set(1.0f / params.output.scale)) {}
};

// A row under way. Pointers are of this row; those that are not written may be
// null.
struct Row {
  const float* values;
  float mean;
  float inverse;  // 1 / deviation
  float* output;
  int8_t* quantized;
};

// Normalizes a vector.
template <bool kFloat, bool kInt8>
TF_POF_INLINE Vector::Int FinishVector(
    const Vector::Float& x, const Vector::Float& gamma,
    const Vector::Float& beta, const Vector::Float& mean,
    const Vector::Float& inverse, const Vector::Float& steps,
    const Quantizer& quantize, float* output) {
  const Vector::Float y =
      Vector::Fma(Vector::Sub(x, mean), Vector::Mul(inverse, gamma), beta);
  if (kFloat) Vector::Store(output, y);
  return kInt8 ? quantize(Vector::Mul(y, steps)) : Vector::SetInt(0);
}

// Of a row's channels from `i` on, which are less than a chunk.
template <bool kFloat, bool kInt8>
__attribute__((noinline)) void FinishTail(const Finisher& all, const Row& row,
                                          int i) {
  const Vector::Float mean = Vector::Set(row.mean);
  const Vector::Float inverse = Vector::Set(row.inverse);
  for (; i < all.channels; i += kLanes) {
    const size_t left = Min(all.channels - i, kLanes);
    float gamma[kLanes] = {}, beta[kLanes] = {}, last[kLanes];
    int8_t rounded[kLanes];
    memcpy(gamma, all.gamma + i, left * sizeof(float));
    memcpy(beta, all.beta + i, left * sizeof(float));
    Vector::StoreInt8(
        rounded, FinishVector<kFloat, kInt8>(Vector::Load(row.values + i),
                                             Vector::Load(gamma),
                                             Vector::Load(beta), mean, inverse,
                                             all.steps, all.quantize, last));
    if (kFloat) memcpy(row.output + i, last, left * sizeof(float));
    if (kInt8) memcpy(row.quantized + i, rounded, left);
  }
}

// Normalizes a row by its mean and deviation.
template <bool kFloat, bool kInt8>
TF_POF_INLINE void FinishRow(const Finisher& all, const Row& row) {
  // Local, as what is stored might otherwise change them.
  const Quantizer quantize = all.quantize;
  const Vector::Float steps = all.steps;
  const Vector::Float mean = Vector::Set(row.mean);
  const Vector::Float inverse = Vector::Set(row.inverse);
  const float* values = row.values;
  const float* gamma = all.gamma;
  const float* beta = all.beta;
  float* output = row.output;
  int8_t* quantized = row.quantized;
  const int chunks = all.channels / kChunk * kChunk;
  for (int i = 0; i < chunks; i += kChunk) {
    Vector::Int rounded[kParts];
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const int at = i + p * kLanes;
      rounded[p] = FinishVector<kFloat, kInt8>(
          Vector::Load(values + at), Vector::Load(gamma + at),
          Vector::Load(beta + at), mean, inverse, steps, quantize,
          kFloat ? output + at : nullptr);
    }
    if (kInt8) Vector::StoreInt8(quantized + i, rounded);
  }
  if (chunks < all.channels) FinishTail<kFloat, kInt8>(all, row, chunks);
}

// Normalizes the rows that make(t, row) writes and returns the sums of. Three
// rows are under way at once, each a step behind the one before, so that none
// waits for its mean or its deviation.
template <typename Make>
void NormalizeRows(const NormTask& task, const Make& make) {
  constexpr int kRows = 3;
  const TfPofLayerNormParams& params = *task.params;
  const Finisher finisher(params);
  const int channels = params.channels;
  const float count = static_cast<float>(channels);
  const int size = CeilDiv(channels, kChunk) * kChunk;
  alignas(kCacheLine) float rows[kRows * kMaxChannels];
  float means[kRows], inverses[kRows];
  for (int t = task.begin; t < task.end + 2; ++t) {
    const int i = t % kRows, before = (t + 2) % kRows, first = (t + 1) % kRows;
    if (t < task.end) means[i] = make(t, rows + i * size) / count;
    if (t > task.begin && t <= task.end) {
      const float squares =
          SumSquares(channels, means[before], rows + before * size);
      inverses[before] = 1.0f / sqrtf(squares / count + params.epsilon);
    }
    if (t > task.begin + 1) {
      const size_t start = static_cast<size_t>(t - 2) * channels;
      Row row = {rows + first * size, means[first], inverses[first], nullptr,
                 nullptr};
      if (task.output != nullptr) row.output = task.output + start;
      if (task.quantized != nullptr) row.quantized = task.quantized + start;
      if (row.quantized == nullptr) {
        FinishRow<true, false>(finisher, row);
      } else if (row.output == nullptr) {
        FinishRow<false, true>(finisher, row);
      } else {
        FinishRow<true, true>(finisher, row);
      }
    }
  }
}

// What is added: a row of `x`, times `multipliers` if kMultiply, plus `base` if
// kAdd.
template <bool kAdd, bool kMultiply>
struct Addends {
  const float* base;
  const int8_t* x;
  const float* multipliers;
  Vector::Int zero;
  Vector::Float scale;

  inline __attribute__((always_inline)) Vector::Float Add(
      const float* from, const int8_t* bytes, const float* factors) const {
    Vector::Float value = Vector::Mul(
        Vector::ToFloat(Vector::AddInt(Vector::LoadInt8(bytes), zero)), scale);
    if (kMultiply) value = Vector::Mul(value, Vector::Load(factors));
    if (kAdd) value = Vector::Add(Vector::Load(from), value);
    return value;
  }
};

// row = addends of any number of channels. Returns its sum.
template <bool kAdd, bool kMultiply>
__attribute__((noinline)) float AddAny(const Addends<kAdd, kMultiply>& addends,
                                       int channels, float* row) {
  for (int i = 0; i < channels; i += kLanes) {
    const size_t left = Min(channels - i, kLanes);
    float last[kLanes] = {}, factors[kLanes] = {};
    int8_t bytes[kLanes] = {};
    if (kAdd) memcpy(last, addends.base + i, left * sizeof(float));
    if (kMultiply) {
      memcpy(factors, addends.multipliers + i, left * sizeof(float));
    }
    memcpy(bytes, addends.x + i, left);
    Vector::Store(row + i, addends.Add(last, bytes, factors));
  }
  return Sum(channels, row);
}

// The same of `x` quantized as said.
template <bool kAdd, bool kMultiply>
TF_POF_INLINE float AddInt8(const float* base, const int8_t* x, int channels,
                            const TfPofQuantization& quantization,
                            const float* multipliers, float* row) {
  const Addends<kAdd, kMultiply> all = {
      base, x, multipliers, Vector::SetInt(-quantization.zero_point),
      Vector::Set(quantization.scale)};
  if (channels % kChunk != 0) return AddAny(all, channels, row);
  return SumRow(channels, [=](const Vector::Float& part,
                              int i) __attribute__((always_inline)) {
    const Vector::Float value = all.Add(kAdd ? base + i : nullptr, x + i,
                                        kMultiply ? multipliers + i : nullptr);
    Vector::Store(row + i, value);
    return Vector::Add(part, value);
  });
}

template <bool kAdd>
float AddInt8(const float* base, const int8_t* x,
              const TfPofLayerNormParams& params, float* row) {
  if (params.x_multipliers == nullptr) {
    return AddInt8<kAdd, false>(base, x, params.channels, params.x, nullptr,
                                row);
  }
  return AddInt8<kAdd, true>(base, x, params.channels, params.x,
                             params.x_multipliers, row);
}

void LayerNorm(const NormTask& task) {
  const TfPofLayerNormParams& params = *task.params;
  const int channels = params.channels;
  NormalizeRows(task, [&](int t, float* row) {
    const size_t start = static_cast<size_t>(t) * channels;
    const float* base =
        task.residual == nullptr ? nullptr : task.residual + start;
    if (task.x != nullptr && base != nullptr) {
      return AddInt8<true>(base, task.x + start, params, row);
    }
    if (task.x != nullptr) {
      return AddInt8<false>(nullptr, task.x + start, params, row);
    }
    if (task.float_x != nullptr && base != nullptr) {
      const float* x = task.float_x + start;
      for (int i = 0; i < channels; ++i) row[i] = base[i] + x[i];
    } else {
      memcpy(row, base != nullptr ? base : task.float_x + start,
             channels * sizeof(float));
    }
    return Sum(channels, row);
  });
}

void Embeddings(const NormTask& task) {
  const int channels = task.params->channels;
  NormalizeRows(task, [&](int t, float* row) {
    float sum = 0.0f;
    for (int i = 0; i < task.num_tables; ++i) {
      const TfPofTable& table = task.tables[i];
      const int32_t id =
          task.ids[i] == nullptr ? t % task.sequence : task.ids[i][t];
      const int8_t* x = table.table + static_cast<size_t>(id) * channels;
      sum = i == 0 ? AddInt8<false, false>(nullptr, x, channels,
                                           table.quantization, nullptr, row)
                   : AddInt8<true, false>(row, x, channels, table.quantization,
                                          nullptr, row);
    }
    return sum;
  });
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_LAYER_NORM_VECTOR_H_
