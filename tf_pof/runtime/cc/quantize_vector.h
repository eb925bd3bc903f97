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

// Bytes are those of panels, if `flip` says so: (value + flip) mod 256.
void Quantize(const float* input, size_t count,
              const TfPofQuantization& quantization, int flip, int8_t* output) {
  const Quantizer quantize(quantization.zero_point);
  const Vector::Float inverse = Vector::Set(1.0f / quantization.scale);
  const auto convert = [&](const float* from, int8_t* to) {
    Vector::StoreInt8(to, quantize(Vector::Mul(Vector::Load(from), inverse)));
    for (int i = 0; flip != 0 && i < kLanes; ++i) {
      to[i] = static_cast<int8_t>(to[i] ^ flip);
    }
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) convert(input + i, output + i);
  if (i == count) return;
  float from[kLanes] = {};
  int8_t to[kLanes];
  memcpy(from, input + i, (count - i) * sizeof(float));
  convert(from, to);
  memcpy(output + i, to, count - i);
}

void Dequantize(const int8_t* input, size_t count,
                const TfPofQuantization& quantization, int flip,
                float* output) {
  const Vector::Int zero = Vector::SetInt(-(quantization.zero_point + flip));
  const Vector::Float scale = Vector::Set(quantization.scale);
  const auto convert = [&](const int8_t* from, float* to) {
    const Vector::Int bytes =
        flip == 0 ? Vector::LoadInt8(from)
                  : Vector::LoadPanel(reinterpret_cast<const uint8_t*>(from));
    Vector::Store(
        to, Vector::Mul(Vector::ToFloat(Vector::AddInt(bytes, zero)), scale));
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) convert(input + i, output + i);
  if (i == count) return;
  int8_t from[kLanes] = {};
  float to[kLanes];
  memcpy(from, input + i, count - i);
  convert(from, to);
  memcpy(output + i, to, (count - i) * sizeof(float));
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_QUANTIZE_VECTOR_H_
