// The vectors of attention_vector.h and layer_norm_vector.h in plain C++: what
// every other instruction set must equal bit for bit.
//
// A vector has 16 lanes everywhere, so that sums are added in one order.
#ifndef TF_POF_RUNTIME_CC_VECTOR_SCALAR_H_
#define TF_POF_RUNTIME_CC_VECTOR_SCALAR_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

struct Vector {
  struct Float {
    float lane[16];
  };
  struct Int {
    int32_t lane[16];
  };

  template <typename Function>
  TF_POF_INLINE Float Map(Function function) {
    Float result;
    for (int i = 0; i < 16; ++i) result.lane[i] = function(i);
    return result;
  }
  template <typename Function>
  TF_POF_INLINE Int MapInt(Function function) {
    Int result;
    for (int i = 0; i < 16; ++i) result.lane[i] = function(i);
    return result;
  }

  TF_POF_INLINE Float Set(float x) {
    return Map([&](int) { return x; });
  }
  TF_POF_INLINE Int SetInt(int32_t x) {
    return MapInt([&](int) { return x; });
  }
  TF_POF_INLINE Float Load(const float* from) {
    return Map([&](int i) { return from[i]; });
  }
  TF_POF_INLINE Int LoadInt(const int32_t* from) {
    return MapInt([&](int i) { return from[i]; });
  }
  TF_POF_INLINE Int LoadInt8(const int8_t* from) {
    return MapInt([&](int i) { return from[i]; });
  }
  TF_POF_INLINE void Store(float* to, const Float& x) {
    memcpy(to, x.lane, sizeof(x.lane));
  }
  TF_POF_INLINE void StoreInt(int32_t* to, const Int& x) {
    memcpy(to, x.lane, sizeof(x.lane));
  }
  // The values fit.
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int& x) {
    for (int i = 0; i < 16; ++i) to[i] = static_cast<int8_t>(x.lane[i]);
  }
  TF_POF_INLINE void StoreInt16(int16_t* to, const Int& x) {
    for (int i = 0; i < 16; ++i) to[i] = static_cast<int16_t>(x.lane[i]);
  }
  // The first one of each row, the second one of each, and so on.
  TF_POF_INLINE void StorePairs(int16_t* to, const int8_t* a, const int8_t* b) {
    for (int i = 0; i < 16; ++i) {
      to[2 * i] = a[i];
      to[2 * i + 1] = b[i];
    }
  }

  TF_POF_INLINE Float Add(const Float& a, const Float& b) {
    return Map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  TF_POF_INLINE Float Sub(const Float& a, const Float& b) {
    return Map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  TF_POF_INLINE Float Mul(const Float& a, const Float& b) {
    return Map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  // a * b + c, rounded once.
  TF_POF_INLINE Float Fma(const Float& a, const Float& b, const Float& c) {
    return Map([&](int i) { return fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // The second one where the first is NaN.
  TF_POF_INLINE Float Min(const Float& a, const Float& b) {
    return Map(
        [&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  TF_POF_INLINE Float Max(const Float& a, const Float& b) {
    return Map(
        [&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  TF_POF_INLINE Int AddInt(const Int& a, const Int& b) {
    return MapInt([&](int i) {
      return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) +
                                  static_cast<uint32_t>(b.lane[i]));
    });
  }
  TF_POF_INLINE Float ToFloat(const Int& x) {
    return Map([&](int i) { return static_cast<float>(x.lane[i]); });
  }
  // Rounded half to even. The values fit.
  TF_POF_INLINE Int Round(const Float& x) {
    return MapInt(
        [&](int i) { return static_cast<int32_t>(lrintf(x.lane[i])); });
  }
  // x times 2 to the lowest 8 bits of `power`.
  TF_POF_INLINE Float ScaleByPower(const Float& x, const Float& power) {
    Float result;
    for (int i = 0; i < 16; ++i) {
      uint32_t bits, shift;
      memcpy(&bits, &x.lane[i], sizeof(bits));
      memcpy(&shift, &power.lane[i], sizeof(shift));
      bits += shift << 23;
      memcpy(&result.lane[i], &bits, sizeof(bits));
    }
    return result;
  }

  // Halves are added until one is left.
  TF_POF_INLINE float Sum(Float x) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) x.lane[i] += x.lane[i + half];
    }
    return x.lane[0];
  }
  TF_POF_INLINE float Highest(const Float& x) {
    float highest = x.lane[0];
    for (float lane : x.lane) highest = highest > lane ? highest : lane;
    return highest;
  }
  TF_POF_INLINE int32_t SumInt(const Int& x) {
    int32_t sum = 0;
    for (int32_t lane : x.lane) sum += lane;
    return sum;
  }

  // Dot products: to each lane, those of a group of values, 4 bytes that all
  // lanes share and 4 of its own, are added.
  struct Pairs {
    using SharedElement = int16_t;
    using OwnElement = int16_t;
    static constexpr int kSize = 2;
    // Sums that fit the registers.
    static constexpr int kRows = 2;
    static constexpr int kVectors = 1;
    using Sums = Int;
    // What is added to queries.
    TF_POF_INLINE int Shift(int zero_point) { return -zero_point; }

    struct Shared {
      int16_t value[2];
    };
    struct Own {
      int16_t value[32];
    };

    TF_POF_INLINE Shared LoadShared(const void* from) {
      Shared group;
      memcpy(&group, from, sizeof(group));
      return group;
    }
    TF_POF_INLINE Own LoadOwn(const void* from) {
      Own groups;
      memcpy(&groups, from, sizeof(groups));
      return groups;
    }
    TF_POF_INLINE Sums Start(const Int& x) { return x; }
    // Wraps around.
    TF_POF_INLINE void Dot(const Shared& a, const Own& b, Sums* sums) {
      for (int i = 0; i < 16; ++i) {
        sums->lane[i] = static_cast<int32_t>(
            static_cast<uint32_t>(sums->lane[i]) +
            static_cast<uint32_t>(a.value[0] * b.value[2 * i] +
                                  a.value[1] * b.value[2 * i + 1]));
      }
    }
    TF_POF_INLINE Int Total(const Sums& sums) { return sums; }
  };
  // What multiplies queries and keys: bytes where there are instructions.
  using Scores = Pairs;
};

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_VECTOR_SCALAR_H_
