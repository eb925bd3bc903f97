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

// Adds function(part, i) of each vector of the row, which is whole chunks.
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

struct RowNorm {
  const TfPofLayerNormParams& params;
  Quantizer quantize;
  Vector::Float inverse_scale;

  explicit RowNorm(const TfPofLayerNormParams& params)
      : params(params),
        quantize(params.output.zero_point),
        inverse_scale(Vector::Set(1.0f / params.output.scale)) {}

  // Normalizes `row`, which has room for whole chunks.
  void operator()(float* row, float* output, int8_t* quantized) const {
    const int channels = params.channels;
    const int size = CeilDiv(channels, kChunk) * kChunk;
    const float count = static_cast<float>(channels);
    for (int i = channels; i < size; ++i) row[i] = 0.0f;
    const float sum = SumRow(size, [&](const Vector::Float& part,
                                       int i) __attribute__((always_inline)) {
      return Vector::Add(part, Vector::Load(row + i));
    });
    const float mean = sum / count;
    // Adds nothing to the variance.
    for (int i = channels; i < size; ++i) row[i] = mean;
    const Vector::Float means = Vector::Set(mean);
    const float squares = SumRow(
        size,
        [&](const Vector::Float& part, int i) __attribute__((always_inline)) {
          const Vector::Float x = Vector::Sub(Vector::Load(row + i), means);
          return Vector::Fma(x, x, part);
        });
    const Vector::Float inverse =
        Vector::Set(1.0f / sqrtf(squares / count + params.epsilon));
    const auto finish = [&](const float* x, const float* gamma,
                            const float* beta, float* to,
                            int8_t* rounded) __attribute__((always_inline)) {
      const Vector::Float y = Vector::Fma(
          Vector::Sub(Vector::Load(x), means),
          Vector::Mul(inverse, Vector::Load(gamma)), Vector::Load(beta));
      if (to != nullptr) Vector::Store(to, y);
      if (rounded != nullptr) {
        Vector::StoreInt8(rounded, quantize(Vector::Mul(y, inverse_scale)));
      }
    };
    int i = 0;
    for (; i + kLanes <= channels; i += kLanes) {
      finish(row + i, params.gamma + i, params.beta + i,
             output == nullptr ? nullptr : output + i,
             quantized == nullptr ? nullptr : quantized + i);
    }
    if (i == channels) return;
    const size_t left = channels - i;
    float gamma[kLanes] = {}, beta[kLanes] = {}, last[kLanes];
    int8_t rounded[kLanes];
    memcpy(gamma, params.gamma + i, left * sizeof(float));
    memcpy(beta, params.beta + i, left * sizeof(float));
    finish(row + i, gamma, beta, last, rounded);
    if (output != nullptr) memcpy(output + i, last, left * sizeof(float));
    if (quantized != nullptr) memcpy(quantized + i, rounded, left);
  }
};

// Writes the values of an int8 row to `row`, or adds them to what is there.
template <bool kAdd>
TF_POF_INLINE void AddInt8(const int8_t* from, int channels,
                           const TfPofQuantization& quantization, float* row) {
  const Vector::Int zero = Vector::SetInt(-quantization.zero_point);
  const Vector::Float scale = Vector::Set(quantization.scale);
  const auto add = [&](const int8_t* x,
                       float* to) __attribute__((always_inline)) {
    Vector::Float value = Vector::Mul(
        Vector::ToFloat(Vector::AddInt(Vector::LoadInt8(x), zero)), scale);
    if (kAdd) value = Vector::Add(Vector::Load(to), value);
    Vector::Store(to, value);
  };
  int i = 0;
  for (; i + kLanes <= channels; i += kLanes) add(from + i, row + i);
  if (i == channels) return;
  int8_t last[kLanes] = {};
  memcpy(last, from + i, channels - i);
  add(last, row + i);
}

void AddFloat(const float* from, int channels, float* row) {
  for (int i = 0; i < channels; ++i) row[i] += from[i];
}

void LayerNorm(const NormTask& task) {
  const RowNorm norm(*task.params);
  const int channels = task.params->channels;
  alignas(kCacheLine) float row[kMaxChannels];
  for (int t = task.begin; t < task.end; ++t) {
    const size_t start = static_cast<size_t>(t) * channels;
    const float* first =
        task.residual != nullptr ? task.residual : task.float_x;
    if (first != nullptr) {
      memcpy(row, first + start, channels * sizeof(float));
      if (task.x != nullptr) {
        AddInt8<true>(task.x + start, channels, task.params->x, row);
      } else if (first != task.float_x && task.float_x != nullptr) {
        AddFloat(task.float_x + start, channels, row);
      }
    } else {
      AddInt8<false>(task.x + start, channels, task.params->x, row);
    }
    norm(row, task.output == nullptr ? nullptr : task.output + start,
         task.quantized == nullptr ? nullptr : task.quantized + start);
  }
}

void Embeddings(const NormTask& task) {
  const RowNorm norm(*task.params);
  const int channels = task.params->channels;
  alignas(kCacheLine) float row[kMaxChannels];
  for (int t = task.begin; t < task.end; ++t) {
    for (int i = 0; i < task.num_tables; ++i) {
      const TfPofTable& table = task.tables[i];
      const int32_t id =
          task.ids[i] == nullptr ? t % task.sequence : task.ids[i][t];
      const int8_t* from = table.table + static_cast<size_t>(id) * channels;
      if (i == 0) {
        AddInt8<false>(from, channels, table.quantization, row);
      } else {
        AddInt8<true>(from, channels, table.quantization, row);
      }
    }
    const size_t start = static_cast<size_t>(t) * channels;
    norm(row, task.output == nullptr ? nullptr : task.output + start,
         task.quantized == nullptr ? nullptr : task.quantized + start);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_LAYER_NORM_VECTOR_H_
