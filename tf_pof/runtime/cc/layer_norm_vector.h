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
  Pad(0.0f, channels, row);
  return SumRow(channels, [=](const Vector::Float& part, int i)
                              __attribute__((always_inline)) {
                                return Vector::Add(part, Vector::Load(row + i));
                              });
}

// Sum of (row - mean)^2.
float SumSquares(int channels, float mean, float* row) {
  Pad(mean, channels, row);
  const Vector::Float means = Vector::Set(mean);
  return SumRow(channels, [=](const Vector::Float& part,
                              int i) __attribute__((always_inline)) {
    const Vector::Float x = Vector::Sub(Vector::Load(row + i), means);
    return Vector::Fma(x, x, part);
  });
}

// Normalizes a row by its mean and 1 / deviation. Pointers are of this row.
template <bool kFloat, bool kInt8>
void FinishRow(const TfPofLayerNormParams& params, const float* row, float mean,
               float inverse, float* output, int8_t* quantized) {
  // Local, as what is stored might otherwise change them.
  const int channels = params.channels;
  const float* gamma = params.gamma;
  const float* beta = params.beta;
  const Quantizer quantize(params.output.zero_point);
  const Vector::Float steps = Vector::Set(1.0f / params.output.scale);
  const Vector::Float means = Vector::Set(mean);
  const Vector::Float inverses = Vector::Set(inverse);
  const auto finish = [=](const float* x, const float* g, const float* b,
                          float* to) __attribute__((always_inline)) {
    const Vector::Float y =
        Vector::Fma(Vector::Sub(Vector::Load(x), means),
                    Vector::Mul(inverses, Vector::Load(g)), Vector::Load(b));
    if (kFloat) Vector::Store(to, y);
    return kInt8 ? quantize(Vector::Mul(y, steps)) : Vector::SetInt(0);
  };
  int i = 0;
  for (; i + kChunk <= channels; i += kChunk) {
    Vector::Int rounded[kParts];
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const int at = i + p * kLanes;
      rounded[p] = finish(row + at, gamma + at, beta + at, output + at);
    }
    if (kInt8) Vector::StoreInt8(quantized + i, rounded);
  }
  for (; i < channels; i += kLanes) {
    const size_t left = Min(channels - i, kLanes);
    float last_gamma[kLanes] = {}, last_beta[kLanes] = {}, last[kLanes];
    int8_t rounded[kLanes];
    memcpy(last_gamma, gamma + i, left * sizeof(float));
    memcpy(last_beta, beta + i, left * sizeof(float));
    Vector::StoreInt8(rounded, finish(row + i, last_gamma, last_beta, last));
    if (kFloat) memcpy(output + i, last, left * sizeof(float));
    if (kInt8) memcpy(quantized + i, rounded, left);
  }
}

void Finish(const NormTask& task, int t, const float* row, float mean,
            float inverse) {
  const TfPofLayerNormParams& params = *task.params;
  const size_t start = static_cast<size_t>(t) * params.channels;
  if (task.quantized == nullptr) {
    FinishRow<true, false>(params, row, mean, inverse, task.output + start,
                           nullptr);
  } else if (task.output == nullptr) {
    FinishRow<false, true>(params, row, mean, inverse, nullptr,
                           task.quantized + start);
  } else {
    FinishRow<true, true>(params, row, mean, inverse, task.output + start,
                          task.quantized + start);
  }
}

// Normalizes the rows that make(t, row) writes and returns the sums of. Three
// rows are under way at once, each a step behind the one before, so that none
// waits for its mean or its deviation.
template <typename Make>
void NormalizeRows(const NormTask& task, const Make& make) {
  constexpr int kRows = 3;
  const TfPofLayerNormParams& params = *task.params;
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
      Finish(task, t - 2, rows + first * size, means[first], inverses[first]);
    }
  }
}

// row = the values of `x`, times `multipliers` if kMultiply, plus `base` if
// kAdd. Returns its sum.
template <bool kAdd, bool kMultiply>
float AddInt8(const float* base, const int8_t* x, int channels,
              const TfPofQuantization& quantization, const float* multipliers,
              float* row) {
  const Vector::Int zero = Vector::SetInt(-quantization.zero_point);
  const Vector::Float scale = Vector::Set(quantization.scale);
  const auto add = [=](const float* from, const int8_t* bytes,
                       const float* factors,
                       float* to) __attribute__((always_inline)) {
    Vector::Float value = Vector::Mul(
        Vector::ToFloat(Vector::AddInt(Vector::LoadInt8(bytes), zero)), scale);
    if (kMultiply) value = Vector::Mul(value, Vector::Load(factors));
    if (kAdd) value = Vector::Add(Vector::Load(from), value);
    Vector::Store(to, value);
    return value;
  };
  if (channels % kChunk == 0) {
    return SumRow(channels, [=](const Vector::Float& part,
                                int i) __attribute__((always_inline)) {
      return Vector::Add(part,
                         add(kAdd ? base + i : nullptr, x + i,
                             kMultiply ? multipliers + i : nullptr, row + i));
    });
  }
  for (int i = 0; i < channels; i += kLanes) {
    const size_t left = Min(channels - i, kLanes);
    float last[kLanes] = {}, factors[kLanes] = {};
    int8_t bytes[kLanes] = {};
    if (kAdd) memcpy(last, base + i, left * sizeof(float));
    if (kMultiply) memcpy(factors, multipliers + i, left * sizeof(float));
    memcpy(bytes, x + i, left);
    add(last, bytes, factors, row + i);
  }
  return Sum(channels, row);
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
