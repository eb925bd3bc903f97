// The vectors of attention_vector.h and layer_norm_vector.h in plain C++: what
// every other instruction set must equal bit for bit.
//
// A vector has 16 lanes everywhere, so that sums are added in one order.
#ifndef TF_POF_RUNTIME_CC_VECTOR_SCALAR_H_
#define TF_POF_RUNTIME_CC_VECTOR_SCALAR_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernel.h"

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
  // Unsigned: two for each lane, one after the other.
  struct Short {
    uint16_t lane[32];
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
  // Of 4 vectors, one after the other.
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int (&x)[4]) {
    for (int i = 0; i < 4; ++i) StoreInt8(to + 16 * i, x[i]);
  }
  // 16 bytes of a panel, kPanelFlip above their values.
  TF_POF_INLINE Int LoadPanel(const uint8_t* from) {
    return MapInt([&](int i) {
      return kPanelFlip != 0 ? from[i] : static_cast<int8_t>(from[i]);
    });
  }
  // A channel of a panel: the values fit.
  TF_POF_INLINE void StorePanel(uint8_t* to, const Int (&x)[4]) {
    for (int i = 0; i < 64; ++i) {
      to[i] = static_cast<uint8_t>(x[i / 16].lane[i % 16] + kPanelFlip);
    }
  }
  TF_POF_INLINE void StoreShort(int16_t* to, const Short& x) {
    memcpy(to, x.lane, sizeof(x.lane));
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
  TF_POF_INLINE Float Div(const Float& a, const Float& b) {
    return Map([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  TF_POF_INLINE Float Sqrt(const Float& x) {
    return Map([&](int i) { return sqrtf(x.lane[i]); });
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
  // The same of values from 0 on; whatever does not fit becomes any number
  // that is above 2^29 without its sign.
  TF_POF_INLINE Int ToFixed(const Float& x) {
    return MapInt([&](int i) {
      return x.lane[i] < 1e9f ? static_cast<int32_t>(lrintf(x.lane[i]))
                              : 1 << 30;
    });
  }
  // Low 32 bits.
  TF_POF_INLINE Int MulInt(const Int& a, const Int& b) {
    return MapInt([&](int i) {
      return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) *
                                  static_cast<uint32_t>(b.lane[i]));
    });
  }

  template <typename Function>
  TF_POF_INLINE Short MapShort(Function function) {
    Short result;
    for (int i = 0; i < 32; ++i) {
      result.lane[i] = static_cast<uint16_t>(function(i));
    }
    return result;
  }
  TF_POF_INLINE Short SetShort(uint16_t x) {
    return MapShort([&](int) { return x; });
  }
  // Of a and b by turns.
  TF_POF_INLINE Short LowHalves(const Int& a, const Int& b) {
    return MapShort([&](int i) { return (i % 2 ? b : a).lane[i / 2]; });
  }
  TF_POF_INLINE Short HighHalves(const Int& a, const Int& b) {
    return MapShort([&](int i) {
      return static_cast<uint32_t>((i % 2 ? b : a).lane[i / 2]) >> 16;
    });
  }
  TF_POF_INLINE Short SubShort(const Short& a, const Short& b) {
    return MapShort([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  TF_POF_INLINE Short MulHigh(const Short& a, const Short& b) {
    return MapShort([&](int i) {
      return static_cast<uint32_t>(a.lane[i]) * b.lane[i] >> 16;
    });
  }
  // 0 for counts from 16 on.
  TF_POF_INLINE Short ShiftRight(const Short& x, const Short& counts) {
    return MapShort([&](int i) {
      return counts.lane[i] < 16 ? x.lane[i] >> counts.lane[i] : 0;
    });
  }
  // Rounds up.
  TF_POF_INLINE Short Halve(const Short& x) {
    return MapShort([&](int i) { return (x.lane[i] + 1) >> 1; });
  }
  // Adds both of each lane, which are below 2^15.
  TF_POF_INLINE Int AddPairs(const Int& sums, const Short& x) {
    return MapInt([&](int i) {
      return sums.lane[i] + x.lane[2 * i] + x.lane[2 * i + 1];
    });
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
  TF_POF_INLINE Int SumOfAll(const Int& x) { return SetInt(SumInt(x)); }

  // Dot products: to each lane, those of a group of values, 4 bytes that all
  // lanes share and 4 of its own, are added.
  struct Pairs {
    using SharedElement = int16_t;
    using OwnElement = int16_t;
    static constexpr int kSize = 2;
    // Sums that fit the registers.
    static constexpr int kVectors = 1;
    static constexpr int Rows(int) { return 2; }
    using Sums = Int;
    // What is added to queries.
    TF_POF_INLINE int Shift(int zero_point) { return -zero_point; }
    TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int zero_point,
                                SharedElement* to) {
      for (int d = 0; d < size; ++d) {
        to[d] = static_cast<SharedElement>(row[d] - zero_point);
      }
    }

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
