// The "tiles" kernel on AVX512-VNNI: dense, or in 16x4 blocks.
#include "kernels_x86.h"
#include "rows_avx512.h"
#include "tiles.h"
#include "transpose_avx512.h"

namespace tf_pof {
namespace {

constexpr int kTokens = 16;
constexpr size_t kPrefetch = 4096;

// Bytes of a block of 4 inputs in scratch memory: of 16 tokens or of one.
constexpr size_t BlockBytes(int tokens) {
  return tokens == 1 ? kTileInputs : kTokens * kTileInputs;
}

// [blocks][16 tokens][4 inputs], or [blocks][4 inputs] of one token; value +
// 128.
void PrepareInput(const int8_t* rows, int tokens, int inputs, uint8_t* to) {
  const __m512i flip = _mm512_set1_epi8(-128);
  for (int k = 0; k < inputs; k += 64) {
    const __mmask64 mask = FirstBytes(inputs - k);
    __m512i r[16];
    for (int t = 0; t < 16; ++t) {
      r[t] = flip;
      if (t < tokens) {
        r[t] = _mm512_xor_si512(
            flip, _mm512_maskz_loadu_epi8(
                      mask, rows + static_cast<size_t>(t) * inputs + k));
      }
      if (tokens == 1) break;
    }
    if (tokens == 1) {
      _mm512_store_si512(to + k, r[0]);
      continue;
    }
    Transpose32(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      _mm512_store_si512(to + static_cast<size_t>(k) * kTokens + i * 64, r[i]);
    }
  }
}

// `tokens` tokens by 16 outputs; `chains` sums of each, so that with few
// tokens one dot product need not wait for the one before.
template <int tokens, int chains>
TF_POF_INLINE void RunGroup(const uint8_t* x, const uint32_t* block,
                            const int8_t* weights, uint32_t count, __m512i bias,
                            __m512i sums[tokens]) {
  __m512i sum[chains][tokens];
#pragma GCC unroll 4
  for (int c = 0; c < chains; ++c) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
      sum[c][t] = c == 0 ? bias : _mm512_setzero_si512();
    }
  }
  for (uint32_t i = 0; i < count; i += chains) {
#pragma GCC unroll 4
    for (int c = 0; c < chains; ++c) {
      if (c > 0 && i + c >= count) break;
      const __m512i w = _mm512_load_si512(weights + c * 64);
      const uint8_t* from = x + block[i + c] * BlockBytes(tokens);
      _mm_prefetch(reinterpret_cast<const char*>(weights) + kPrefetch + c * 64,
                   _MM_HINT_T0);
#pragma GCC unroll 16
      for (int t = 0; t < tokens; ++t) {
        const __m512i v =
            PinnedBroadcast(reinterpret_cast<const uint32_t*>(from) + t);
        PinnedDot(&sum[c][t], v, w);
      }
    }
    weights += chains * 64;
  }
#pragma GCC unroll 16
  for (int t = 0; t < tokens; ++t) {
    sums[t] = sum[0][t];
#pragma GCC unroll 4
    for (int c = 1; c < chains; ++c) {
      sums[t] = _mm512_add_epi32(sums[t], sum[c][t]);
    }
  }
}

// Eight tokens by 32 outputs without a zero tile: half the broadcasts, which
// else bound the loop.
TF_POF_INLINE void RunDensePair(const uint8_t* x, const int8_t* weights_a,
                                const int8_t* weights_b, uint32_t count,
                                __m512i a[8], __m512i b[8]) {
  for (uint32_t i = 0; i < count; ++i) {
    const __m512i w_a = _mm512_load_si512(weights_a);
    const __m512i w_b = _mm512_load_si512(weights_b);
#pragma GCC unroll 8
    for (int t = 0; t < 8; ++t) {
      const __m512i v =
          PinnedBroadcast(reinterpret_cast<const uint32_t*>(x) + t);
      PinnedDot(&a[t], v, w_a);
      PinnedDot(&b[t], v, w_b);
    }
    x += BlockBytes(8);
    weights_a += 64;
    weights_b += 64;
  }
}

// Outputs n to n + 31 of all tokens of the task; false if tiles are missing.
bool StoreDensePair(const Tiles& p, const Epilogue& epilogue, const Task& task,
                    int n, int end) {
  const uint32_t* start = p.starts.data + n / kTileOutputs;
  const uint32_t count = static_cast<uint32_t>((p.inputs + 3) / 4);
  if (n + 2 * kTileOutputs > end || start[1] - start[0] != count ||
      start[2] - start[1] != count) {
    return false;
  }
  for (int first = 0; first < task.tokens; first += 8) {
    __m512i a[8], b[8];
#pragma GCC unroll 8
    for (int t = 0; t < 8; ++t) {
      a[t] = _mm512_loadu_si512(p.bias.data + n);
      b[t] = _mm512_loadu_si512(p.bias.data + n + kTileOutputs);
    }
    RunDensePair(task.scratch + first * kTileInputs,
                 p.weights.data + static_cast<size_t>(start[0]) * 64,
                 p.weights.data + static_cast<size_t>(start[1]) * 64, count, a,
                 b);
#pragma GCC unroll 8
    for (int t = 0; t < 8; ++t) {
      if (first + t < task.tokens) {
        const size_t at =
            (first + t) * task.stride + n - task.unit_begin * kUnit;
        StoreLanes(a[t], epilogue, n, kTileOutputs, task.output, at);
        StoreLanes(b[t], epilogue, n + kTileOutputs, kTileOutputs, task.output,
                   at + kTileOutputs);
      }
    }
  }
  return true;
}

template <int tokens, int chains>
__attribute__((noinline)) void RunTokens(const Tiles& p,
                                         const Epilogue& epilogue,
                                         const Task& task) {
  const int first = task.unit_begin * kUnit;
  const int last = task.unit_end * kUnit;
  const int end = last < p.outputs ? last : p.outputs;
  for (int n = first; n < end; n += kTileOutputs) {
    if (tokens >= 8 && StoreDensePair(p, epilogue, task, n, end)) {
      n += kTileOutputs;
      continue;
    }
    const int group = n / kTileOutputs;
    const uint32_t start = p.starts.data[group];
    __m512i sums[tokens];
    RunGroup<tokens, chains>(task.scratch, p.blocks.data + start,
                             p.weights.data + static_cast<size_t>(start) * 64,
                             p.starts.data[group + 1] - start,
                             _mm512_loadu_si512(p.bias.data + n), sums);
    const int count = end - n < kTileOutputs ? end - n : kTileOutputs;
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
      if (t < task.tokens) {
        StoreLanes(sums[t], epilogue, n, count, task.output,
                   t * task.stride + n - first);
      }
    }
  }
}

}  // namespace

size_t TilesAvx512Scratch(const void* packed) {
  const auto& p = *static_cast<const Tiles*>(packed);
  return static_cast<size_t>(p.inputs + 63) / 64 * 64 * kTokens;
}

void RunTilesAvx512(const void* packed, const Epilogue& epilogue,
                    const Task& task) {
  const auto& p = *static_cast<const Tiles*>(packed);
  PrepareInput(static_cast<const int8_t*>(task.input), task.tokens, p.inputs,
               task.scratch);
  if (task.tokens == 1) {
    RunTokens<1, 4>(p, epilogue, task);
  } else if (task.tokens <= 4) {
    RunTokens<4, 2>(p, epilogue, task);
  } else if (task.tokens <= 8) {
    RunTokens<8, 1>(p, epilogue, task);
  } else {
    RunTokens<16, 1>(p, epilogue, task);
  }
}

}  // namespace tf_pof
