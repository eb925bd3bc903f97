// Quantize and dequantize over the vectors of one instruction set,
// that of the header TF_POF_VECTOR.
#ifndef TF_POF_RUNTIME_CC_QUANTIZE_VECTOR_H_
#define TF_POF_RUNTIME_CC_QUANTIZE_VECTOR_H_

#include <string.h>

#include TF_POF_VECTOR

#include "transformer.h"

namespace tf_pof {
namespace {

constexpr int kLanes = 16;

// Rounds half to even and saturates. Comparing first makes NaN the highest.
struct Quantizer {
  Vector::Float low;
  Vector::Float high;
  Vector::Int zero_point;

  explicit Quantizer(int32_t zero)
      : low(Vector::Set(static_cast<float>(-128 - zero))),
        high(Vector::Set(static_cast<float>(127 - zero))),
        zero_point(Vector::SetInt(zero)) {}

  // `x` is in steps of the quantization.
  __attribute__((always_inline)) Vector::Int operator()(
      const Vector::Float& x) const {
    const Vector::Float clamped = Vector::Max(Vector::Min(x, high), low);
    return Vector::AddInt(Vector::Round(clamped), zero_point);
  }
};

// Calls convert(from, to) for four vectors at a time, those at the end in
// copies.
template <typename From, typename To, typename Convert>
TF_POF_INLINE void ConvertAll(const From* input, size_t count, To* output,
                              const Convert& convert) {
  constexpr int kAtOnce = 4 * kLanes;
  size_t i = 0;
  for (; i + kAtOnce <= count; i += kAtOnce) convert(input + i, output + i);
  if (i == count) return;
  From from[kAtOnce] = {};
  To to[kAtOnce];
  memcpy(from, input + i, (count - i) * sizeof(From));
  convert(from, to);
  memcpy(output + i, to, (count - i) * sizeof(To));
}

template <bool kPanels>
void QuantizeTo(const float* input, size_t count,
                const TfPofQuantization& quantization, int8_t* output) {
  const Quantizer quantize(quantization.zero_point);
  const Vector::Float inverse = Vector::Set(1.0f / quantization.scale);
  ConvertAll(input, count, output,
             [quantize, inverse](const float* from, int8_t* to)
                 __attribute__((always_inline)) {
                   Vector::Int values[4];
#pragma GCC unroll 4
                   for (int v = 0; v < 4; ++v) {
                     values[v] = quantize(
                         Vector::Mul(Vector::Load(from + v * kLanes), inverse));
                   }
                   if (kPanels) {
                     Vector::StorePanel(reinterpret_cast<uint8_t*>(to), values);
                   } else {
                     Vector::StoreInt8(to, values);
                   }
                 });
}

template <bool kPanels>
void DequantizeFrom(const int8_t* input, size_t count,
                    const TfPofQuantization& quantization, float* output) {
  const Vector::Int zero =
      Vector::SetInt(-(quantization.zero_point + (kPanels ? 128 : 0)));
  const Vector::Float scale = Vector::Set(quantization.scale);
  ConvertAll(input, count, output,
             [zero, scale](const int8_t* from, float* to)
                 __attribute__((always_inline)) {
#pragma GCC unroll 4
                   for (int v = 0; v < 4; ++v) {
                     const int8_t* at = from + v * kLanes;
                     const Vector::Int bytes =
                         kPanels ? Vector::LoadPanel(
                                       reinterpret_cast<const uint8_t*>(at))
                                 : Vector::LoadInt8(at);
                     const Vector::Float steps =
                         Vector::ToFloat(Vector::AddInt(bytes, zero));
                     Vector::Store(to + v * kLanes, Vector::Mul(steps, scale));
                   }
                 });
}

// Bytes are those of panels, if `flip` says so: (value + flip) mod 256.
void Quantize(const float* input, size_t count,
              const TfPofQuantization& quantization, int flip, int8_t* output) {
  if (flip == 0) {
    QuantizeTo<false>(input, count, quantization, output);
  } else {
    QuantizeTo<true>(input, count, quantization, output);
  }
}

void Dequantize(const int8_t* input, size_t count,
                const TfPofQuantization& quantization, int flip,
                float* output) {
  if (flip == 0) {
    DequantizeFrom<false>(input, count, quantization, output);
  } else {
    DequantizeFrom<true>(input, count, quantization, output);
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_QUANTIZE_VECTOR_H_
