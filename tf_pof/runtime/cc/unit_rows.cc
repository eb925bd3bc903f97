#include "unit_rows.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tf_pof {
namespace {

// Which of 64 bytes are not zero.
uint64_t NonzeroMask(const int8_t* bytes) {
  uint64_t mask = 0;
#if defined(__SSE2__)
  for (int i = 0; i < 4; ++i) {
    const __m128i zero = _mm_cmpeq_epi8(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes) + i),
        _mm_setzero_si128());
    mask |= static_cast<uint64_t>(_mm_movemask_epi8(zero) ^ 0xFFFF) << (16 * i);
  }
#else
  for (int i = 0; i < 8; ++i) {
    uint64_t word;
    memcpy(&word, bytes + 8 * i, sizeof(word));
    // The top bit of each byte that has a bit; then those bits together.
    constexpr uint64_t kTop = 0x8080808080808080;
    word = (((word & ~kTop) + ~kTop) | word) & kTop;
    mask |= (word >> 7) * 0x0102040810204080 >> 56 << (8 * i);
  }
#endif
  return mask;
}

void FillMasks(const int8_t* row, int inputs, uint64_t* masks) {
  for (int k = 0; k < inputs; k += kMaskBits) {
    if (inputs - k >= kMaskBits) {
      *masks++ = NonzeroMask(row + k);
    } else {
      int8_t rest[kMaskBits] = {};
      memcpy(rest, row + k, inputs - k);
      *masks++ = NonzeroMask(rest);
    }
  }
}

// Unsigned, because overflow wraps around.
uint32_t SumOf(const int8_t* bytes, int count) {
  uint32_t sum = 0;
  int i = 0;
#if defined(__SSE2__)
  // Compilers do not find the sum of absolute differences from zero.
  __m128i sums = _mm_setzero_si128();
  for (; i + 16 <= count; i += 16) {
    const __m128i shifted = _mm_xor_si128(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i)),
        _mm_set1_epi8(-128));
    sums = _mm_add_epi64(sums, _mm_sad_epu8(shifted, _mm_setzero_si128()));
  }
  sums = _mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums));
  sum = static_cast<uint32_t>(_mm_cvtsi128_si32(sums)) -
        static_cast<uint32_t>(i) * 128;
#endif
  for (; i < count; ++i) sum += static_cast<uint32_t>(bytes[i]);
  return sum;
}

// What a thread reads into.
struct Scratch {
  Buffer<int8_t> weights;
  Buffer<uint64_t> masks;
};

struct Loop {
  const Layer* layer;
  UnitFunction function;
  void* context;
  Scratch* scratch;  // [threads]
  int32_t status;    // atomic
};

TfPofStatus RunUnit(const Loop& loop, int unit, Scratch* scratch) {
  const Layer& layer = *loop.layer;
  UnitRows rows = {};
  rows.layer = &layer;
  rows.unit = unit;
  rows.first = unit * kUnit;
  rows.end = Min(rows.first + kUnit, layer.outputs);
  rows.words = CeilDiv(layer.inputs, kMaskBits);
  const size_t count = rows.end - rows.first;
  if (layer.weights != nullptr) {
    rows.weights =
        layer.weights + static_cast<size_t>(rows.first) * layer.inputs;
  } else {
    if (!scratch->weights.Resize(count * layer.inputs)) {
      return kTfPofOutOfMemory;
    }
    rows.weights = scratch->weights.data;
    const TfPofStatus status =
        layer.read_rows(layer.read_context, rows.first,
                        static_cast<int32_t>(count), scratch->weights.data);
    if (status != kTfPofOk) return status;
  }
  if (!scratch->masks.Resize(count * rows.words)) return kTfPofOutOfMemory;
  rows.masks = scratch->masks.data;
  for (int n = rows.first; n < rows.end; ++n) {
    FillMasks(
        rows.row(n), layer.inputs,
        scratch->masks.data + static_cast<size_t>(n - rows.first) * rows.words);
  }
  return loop.function(loop.context, rows);
}

void RunIndex(void* context, int32_t unit, int32_t thread) {
  auto& loop = *static_cast<Loop*>(context);
  if (__atomic_load_n(&loop.status, __ATOMIC_RELAXED) != kTfPofOk) return;
  const TfPofStatus status = RunUnit(loop, unit, &loop.scratch[thread]);
  if (status != kTfPofOk) {
    __atomic_store_n(&loop.status, status, __ATOMIC_RELAXED);
  }
}

}  // namespace

int32_t UnitRows::CorrectedBias(int n, int shift, uint32_t sum) const {
  const uint32_t correction =
      sum * static_cast<uint32_t>(layer->input_zero_point + shift);
  const uint32_t start =
      layer->bias == nullptr ? 0 : static_cast<uint32_t>(layer->bias[n]);
  return static_cast<int32_t>(start - correction);
}

int32_t UnitRows::CorrectedBias(int n, int shift) const {
  return CorrectedBias(n, shift, SumOf(row(n), layer->inputs));
}

TfPofStatus ForEachUnit(const Layer& layer, UnitFunction function,
                        void* context) {
  const int threads = TfPofThreadPoolThreads(layer.pool);
  Buffer<Scratch> scratch = {};
  if (!scratch.Resize(threads)) return kTfPofOutOfMemory;
  Loop loop = {&layer, function, context, scratch.data, kTfPofOk};
  TfPofThreadPoolRun(layer.pool, CeilDiv(layer.outputs, kUnit), RunIndex,
                     &loop);
  for (int i = 0; i < threads; ++i) {
    scratch.data[i].weights.Free();
    scratch.data[i].masks.Free();
  }
  scratch.Free();
  return static_cast<TfPofStatus>(loop.status);
}

}  // namespace tf_pof
