// Layer norm of a panel over the vectors of one instruction set: a vector holds
// 16 tokens of a channel, so that nothing is added across lanes. Sums are those
// of layer_norm_vector.h, added in the same order.
#ifndef TF_POF_RUNTIME_CC_LAYER_NORM_PANEL_VECTOR_H_
#define TF_POF_RUNTIME_CC_LAYER_NORM_PANEL_VECTOR_H_

#include "buffer.h"
#include "layer_norm_vector.h"
#include "transformer_kernel.h"

namespace tf_pof {
namespace {

// Channel c is part c % kChunk of a sum. Parts are in the first level cache, so
// that memory is read in its order.
template <int kGroups, typename Function>
TF_POF_INLINE void SumPanel(int channels, const Function& function,
                            Vector::Float (&totals)[kGroups]) {
  alignas(kCacheLine) float parts[kChunk][kGroups][kLanes];
  for (int i = 0; i < kChunk; ++i) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      Vector::Float sum = Vector::Set(0.0f);
      if (i < channels) sum = function(sum, i, g);
      Vector::Store(parts[i][g], sum);
    }
  }
  for (int first = kChunk; first < channels; first += kChunk) {
    const int count = Min(kChunk, channels - first);
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        float* part = parts[i][g];
        Vector::Store(part, function(Vector::Load(part), first + i, g));
      }
    }
  }
  // As Vector::Sum adds the four vectors' sum.
  for (int g = 0; g < kGroups; ++g) {
    Vector::Float sums[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const auto part = [&](int p) __attribute__((always_inline)) {
        return Vector::Load(parts[p * kLanes + i][g]);
      };
      sums[i] = Vector::Add(Vector::Add(part(0), part(1)),
                            Vector::Add(part(2), part(3)));
    }
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) {
        sums[i] = Vector::Add(sums[i], sums[i + half]);
      }
    }
    totals[g] = sums[0];
  }
}

// What is added to the residual.
enum class Added { kNothing, kFloats, kInt8, kMultipliedInt8 };

// Writes the sums to normalize, and their sums over the channels to `totals`.
template <int kGroups, bool kResidual, Added kAdded>
void AddPanels(const PanelNormTask& task, Vector::Float (&totals)[kGroups]) {
  const TfPofLayerNormParams& params = *task.params;
  const Vector::Int zero = Vector::SetInt(-(params.x.zero_point + kPanelFlip));
  const Vector::Float scale = Vector::Set(params.x.scale);
  const float* multipliers = params.x_multipliers;
  const float* residual = task.residual;
  const float* floats = task.float_x;
  const uint8_t* bytes = task.x;
  float* to = task.sums;
  SumPanel<kGroups>(
      params.channels,
      [=](const Vector::Float& part, int c, int g)
          __attribute__((always_inline)) {
            const size_t at = static_cast<size_t>(c) * kPanelTokens +
                              static_cast<size_t>(g) * kLanes;
            Vector::Float value;
            if constexpr (kResidual) value = Vector::Load(residual + at);
            if constexpr (kAdded != Added::kNothing) {
              Vector::Float added;
              if constexpr (kAdded == Added::kFloats) {
                added = Vector::Load(floats + at);
              } else {
                added = Vector::Mul(Vector::ToFloat(Vector::AddInt(
                                        Vector::LoadPanel(bytes + at), zero)),
                                    scale);
                if constexpr (kAdded == Added::kMultipliedInt8) {
                  added = Vector::Mul(added, Vector::Set(multipliers[c]));
                }
              }
              value = kResidual ? Vector::Add(value, added) : added;
            }
            Vector::Store(to + at, value);
            return Vector::Add(part, value);
          },
      totals);
}

template <int kGroups>
void AddPanels(const PanelNormTask& task, Vector::Float (&totals)[kGroups]) {
  const bool residual = task.residual != nullptr;
  if (task.x == nullptr && task.float_x == nullptr) {
    AddPanels<kGroups, true, Added::kNothing>(task, totals);
  } else if (task.x == nullptr) {
    AddPanels<kGroups, true, Added::kFloats>(task, totals);
  } else if (task.params->x_multipliers != nullptr) {
    if (residual) {
      AddPanels<kGroups, true, Added::kMultipliedInt8>(task, totals);
    } else {
      AddPanels<kGroups, false, Added::kMultipliedInt8>(task, totals);
    }
  } else if (residual) {
    AddPanels<kGroups, true, Added::kInt8>(task, totals);
  } else {
    AddPanels<kGroups, false, Added::kInt8>(task, totals);
  }
}

// Normalizes task.sums, by vectors of means and of 1 / deviation.
template <int kGroups, bool kFloat, bool kInt8>
void FinishPanel(const PanelNormTask& task,
                 const Vector::Float (&means)[kGroups],
                 const Vector::Float (&inverses)[kGroups]) {
  const TfPofLayerNormParams& params = *task.params;
  const int channels = params.channels;
  const float* gamma = params.gamma;
  const float* beta = params.beta;
  float* sums = task.sums;
  uint8_t* quantized = task.quantized;
  const Quantizer quantize(params.output.zero_point);
  const Vector::Float steps = Vector::Set(1.0f / params.output.scale);
  for (int c = 0; c < channels; ++c) {
    const Vector::Float factor = Vector::Set(gamma[c]);
    const Vector::Float offset = Vector::Set(beta[c]);
    const size_t at = static_cast<size_t>(c) * kPanelTokens;
    // Whatever becomes of tokens that are not there.
    Vector::Int rounded[4] = {Vector::SetInt(0), Vector::SetInt(0),
                              Vector::SetInt(0), Vector::SetInt(0)};
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      float* place = sums + at + g * kLanes;
      const Vector::Float y =
          Vector::Fma(Vector::Sub(Vector::Load(place), means[g]),
                      Vector::Mul(inverses[g], factor), offset);
      if constexpr (kFloat) Vector::Store(place, y);
      if constexpr (kInt8) rounded[g] = quantize(Vector::Mul(y, steps));
    }
    if constexpr (kInt8) Vector::StorePanel(quantized + at, rounded);
  }
}

template <int kGroups>
void NormalizePanel(const PanelNormTask& task) {
  const TfPofLayerNormParams& params = *task.params;
  const Vector::Float count = Vector::Set(static_cast<float>(params.channels));
  const Vector::Float one = Vector::Set(1.0f);
  const Vector::Float epsilon = Vector::Set(params.epsilon);
  Vector::Float means[kGroups], inverses[kGroups];
  AddPanels<kGroups>(task, means);
  if (task.only_sums) return;
  for (int g = 0; g < kGroups; ++g) means[g] = Vector::Div(means[g], count);
  const float* sums = task.sums;
  SumPanel<kGroups>(
      params.channels,
      [=](const Vector::Float& part, int c,
          int g) __attribute__((always_inline)) {
        const size_t at = static_cast<size_t>(c) * kPanelTokens +
                          static_cast<size_t>(g) * kLanes;
        const Vector::Float x = Vector::Sub(Vector::Load(sums + at), means[g]);
        return Vector::Fma(x, x, part);
      },
      inverses);
  for (int g = 0; g < kGroups; ++g) {
    const Vector::Float variance =
        Vector::Add(Vector::Div(inverses[g], count), epsilon);
    inverses[g] = Vector::Div(one, Vector::Sqrt(variance));
  }
  if (task.quantized == nullptr) {
    FinishPanel<kGroups, true, false>(task, means, inverses);
  } else if (task.writes_floats) {
    FinishPanel<kGroups, true, true>(task, means, inverses);
  } else {
    FinishPanel<kGroups, false, true>(task, means, inverses);
  }
}

void PanelNorm(const PanelNormTask& task) {
  if (task.tokens <= kLanes) {
    NormalizePanel<1>(task);
  } else if (task.tokens <= 2 * kLanes) {
    NormalizePanel<2>(task);
  } else {
    NormalizePanel<4>(task);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_LAYER_NORM_PANEL_VECTOR_H_
