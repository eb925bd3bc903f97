// The vectors of vector_scalar.h on Neon, and on its dot products where the
// compiler may use them: four registers each.
#ifndef TF_POF_RUNTIME_CC_VECTOR_NEON_H_
#define TF_POF_RUNTIME_CC_VECTOR_NEON_H_

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define TF_POF_INLINE static inline __attribute__((always_inline))

namespace tf_pof {
namespace {

struct Vector {
  struct Float {
    float32x4_t v[4];
  };
  struct Int {
    int32x4_t v[4];
  };
  struct Short {
    uint16x8_t v[4];
  };

  TF_POF_INLINE Float Set(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
  }
  TF_POF_INLINE Int SetInt(int32_t x) {
    const int32x4_t v = vdupq_n_s32(x);
    return {{v, v, v, v}};
  }
  TF_POF_INLINE Float Load(const float* from) {
    return {{vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8),
             vld1q_f32(from + 12)}};
  }
  TF_POF_INLINE Int LoadInt(const int32_t* from) {
    return {{vld1q_s32(from), vld1q_s32(from + 4), vld1q_s32(from + 8),
             vld1q_s32(from + 12)}};
  }
  TF_POF_INLINE Int LoadInt8(const int8_t* from) {
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
    const int16x8_t high = vmovl_high_s8(bytes);
    return {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low),
             vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
  }
  TF_POF_INLINE void Store(float* to, const Float& x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, x.v[i]);
  }
  TF_POF_INLINE void StoreInt(int32_t* to, const Int& x) {
    for (int i = 0; i < 4; ++i) vst1q_s32(to + 4 * i, x.v[i]);
  }
  TF_POF_INLINE int16x8_t ToInt16(int32x4_t low, int32x4_t high) {
    return vmovn_high_s32(vmovn_s32(low), high);
  }
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int& x) {
    const int16x8_t low = ToInt16(x.v[0], x.v[1]);
    const int16x8_t high = ToInt16(x.v[2], x.v[3]);
    vst1q_s8(to, vmovn_high_s16(vmovn_s16(low), high));
  }
  TF_POF_INLINE void StoreInt8(int8_t* to, const Int (&x)[4]) {
    for (int i = 0; i < 4; ++i) StoreInt8(to + 16 * i, x[i]);
  }
  TF_POF_INLINE Int LoadPanel(const uint8_t* from) {
    return LoadInt8(reinterpret_cast<const int8_t*>(from));
  }
  TF_POF_INLINE void StorePanel(uint8_t* to, const Int (&x)[4]) {
    StoreInt8(reinterpret_cast<int8_t*>(to), x);
  }
  TF_POF_INLINE void StoreShort(int16_t* to, const Short& x) {
    for (int i = 0; i < 4; ++i) {
      vst1q_s16(to + 8 * i, vreinterpretq_s16_u16(x.v[i]));
    }
  }
  TF_POF_INLINE void StorePairs(int16_t* to, const int8_t* a, const int8_t* b) {
    const int8x16_t x = vld1q_s8(a), y = vld1q_s8(b);
    const int8x16_t low = vzip1q_s8(x, y), high = vzip2q_s8(x, y);
    vst1q_s16(to, vmovl_s8(vget_low_s8(low)));
    vst1q_s16(to + 8, vmovl_high_s8(low));
    vst1q_s16(to + 16, vmovl_s8(vget_low_s8(high)));
    vst1q_s16(to + 24, vmovl_high_s8(high));
  }

  TF_POF_INLINE Float Add(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float Sub(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vsubq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float Mul(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vmulq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float Div(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vdivq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float Sqrt(Float x) {
    for (int i = 0; i < 4; ++i) x.v[i] = vsqrtq_f32(x.v[i]);
    return x;
  }
  TF_POF_INLINE Float Fma(const Float& a, const Float& b, Float c) {
    for (int i = 0; i < 4; ++i) c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
  }
  TF_POF_INLINE Float Min(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vminnmq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float Max(Float a, const Float& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vmaxnmq_f32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Int AddInt(Int a, const Int& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vaddq_s32(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Float ToFloat(const Int& x) {
    Float y;
    for (int i = 0; i < 4; ++i) y.v[i] = vcvtq_f32_s32(x.v[i]);
    return y;
  }
  TF_POF_INLINE Int Round(const Float& x) {
    Int y;
    for (int i = 0; i < 4; ++i) y.v[i] = vcvtnq_s32_f32(x.v[i]);
    return y;
  }
  // Saturates.
  TF_POF_INLINE Int ToFixed(const Float& x) { return Round(x); }
  TF_POF_INLINE Int MulInt(Int a, const Int& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vmulq_s32(a.v[i], b.v[i]);
    return a;
  }

  TF_POF_INLINE Short SetShort(uint16_t x) {
    const uint16x8_t v = vdupq_n_u16(x);
    return {{v, v, v, v}};
  }
  TF_POF_INLINE Short LowHalves(const Int& a, const Int& b) {
    Short x;
    for (int i = 0; i < 4; ++i) {
      x.v[i] = vreinterpretq_u16_s32(vsliq_n_s32(a.v[i], b.v[i], 16));
    }
    return x;
  }
  TF_POF_INLINE Short HighHalves(const Int& a, const Int& b) {
    Short x;
    for (int i = 0; i < 4; ++i) {
      x.v[i] = vreinterpretq_u16_s32(vsriq_n_s32(b.v[i], a.v[i], 16));
    }
    return x;
  }
  TF_POF_INLINE Short SubShort(Short a, const Short& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = vsubq_u16(a.v[i], b.v[i]);
    return a;
  }
  TF_POF_INLINE Short MulHigh(Short a, const Short& b) {
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t low =
          vmull_u16(vget_low_u16(a.v[i]), vget_low_u16(b.v[i]));
      const uint32x4_t high = vmull_high_u16(a.v[i], b.v[i]);
      a.v[i] =
          vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
    }
    return a;
  }
  TF_POF_INLINE Short ShiftRight(Short x, const Short& counts) {
    // Neon looks at 8 bits of a count, where 16 clears all.
    const uint16x8_t most = vdupq_n_u16(16);
    for (int i = 0; i < 4; ++i) {
      const int16x8_t left =
          vnegq_s16(vreinterpretq_s16_u16(vminq_u16(counts.v[i], most)));
      x.v[i] = vshlq_u16(x.v[i], left);
    }
    return x;
  }
  TF_POF_INLINE Short Halve(Short x) {
    for (int i = 0; i < 4; ++i) x.v[i] = vrshrq_n_u16(x.v[i], 1);
    return x;
  }
  TF_POF_INLINE Int AddPairs(Int sums, const Short& x) {
    for (int i = 0; i < 4; ++i) {
      sums.v[i] = vpadalq_s16(sums.v[i], vreinterpretq_s16_u16(x.v[i]));
    }
    return sums;
  }

  TF_POF_INLINE float Sum(const Float& x) {
    const float32x4_t four =
        vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  TF_POF_INLINE float Highest(const Float& x) {
    return vmaxvq_f32(
        vmaxq_f32(vmaxq_f32(x.v[0], x.v[1]), vmaxq_f32(x.v[2], x.v[3])));
  }
  TF_POF_INLINE int32_t SumInt(const Int& x) {
    return vaddvq_s32(
        vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3])));
  }
  TF_POF_INLINE Int SumOfAll(const Int& x) { return SetInt(SumInt(x)); }

  struct Pairs {
    using SharedElement = int16_t;
    using OwnElement = int16_t;
    static constexpr int kSize = 2;
    static constexpr int kVectors = 1;
    static constexpr int Rows(int) { return 3; }
    using Shared = int16x8_t;
    struct Own {
      int16x8_t v[4];
    };
    // The products of a pair are added in two lanes.
    struct Sums {
      int32x4_t v[8];
    };
    TF_POF_INLINE int Shift(int zero_point) { return -zero_point; }
    TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int zero_point,
                                int16_t* to) {
      for (int d = 0; d < size; ++d) {
        to[d] = static_cast<int16_t>(row[d] - zero_point);
      }
    }

    TF_POF_INLINE Shared LoadShared(const void* from) {
      return vreinterpretq_s16_s32(
          vld1q_dup_s32(static_cast<const int32_t*>(from)));
    }
    TF_POF_INLINE Own LoadOwn(const void* from) {
      const auto* pairs = static_cast<const int16_t*>(from);
      return {{vld1q_s16(pairs), vld1q_s16(pairs + 8), vld1q_s16(pairs + 16),
               vld1q_s16(pairs + 24)}};
    }
    TF_POF_INLINE Sums Start(const Int& x) {
      const int32x4_t zero = vdupq_n_s32(0);
      Sums sums;
      for (int i = 0; i < 4; ++i) {
        sums.v[2 * i] = vzip1q_s32(x.v[i], zero);
        sums.v[2 * i + 1] = vzip2q_s32(x.v[i], zero);
      }
      return sums;
    }
    TF_POF_INLINE void Dot(Shared a, const Own& b, Sums* sums) {
      for (int i = 0; i < 4; ++i) {
        sums->v[2 * i] =
            vmlal_s16(sums->v[2 * i], vget_low_s16(a), vget_low_s16(b.v[i]));
        sums->v[2 * i + 1] = vmlal_high_s16(sums->v[2 * i + 1], a, b.v[i]);
      }
    }
    TF_POF_INLINE Int Total(const Sums& sums) {
      Int total;
      for (int i = 0; i < 4; ++i) {
        total.v[i] = vpaddq_s32(sums.v[2 * i], sums.v[2 * i + 1]);
      }
      return total;
    }
  };

#if defined(__ARM_FEATURE_DOTPROD)

  struct Quads {
    using SharedElement = int8_t;
    using OwnElement = int8_t;
    static constexpr int kSize = 4;
    static constexpr int kVectors = 1;
    static constexpr int Rows(int) { return 6; }
    using Shared = int8x16_t;
    struct Own {
      int8x16_t v[4];
    };
    using Sums = Int;
    TF_POF_INLINE int Shift(int) { return 0; }
    TF_POF_INLINE void ShiftRow(const int8_t* row, int size, int, int8_t* to) {
      memcpy(to, row, size);
    }

    TF_POF_INLINE Shared LoadShared(const void* from) {
      return vreinterpretq_s8_s32(
          vld1q_dup_s32(static_cast<const int32_t*>(from)));
    }
    TF_POF_INLINE Own LoadOwn(const void* from) {
      const auto* quads = static_cast<const int8_t*>(from);
      return {{vld1q_s8(quads), vld1q_s8(quads + 16), vld1q_s8(quads + 32),
               vld1q_s8(quads + 48)}};
    }
    TF_POF_INLINE Sums Start(const Int& x) { return x; }
    TF_POF_INLINE void Dot(Shared a, const Own& b, Sums* sums) {
      for (int i = 0; i < 4; ++i) {
        sums->v[i] = vdotq_s32(sums->v[i], a, b.v[i]);
      }
    }
    TF_POF_INLINE Int Total(const Sums& sums) { return sums; }
  };
  using Scores = Quads;

#else

  using Scores = Pairs;

#endif
};

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_VECTOR_NEON_H_
