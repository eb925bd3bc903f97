// The "tiles" kernel on AVX512-VNNI: dense, or in 16x4 blocks.
#include "kernels_x86.h"
#include "rows_avx512.h"
#include "tiles.h"
#include "transpose_avx512.h"

namespace tf_pof {
namespace {

constexpr int kMaxTokens = 16;
constexpr size_t kPrefetch = 4096;

// Bytes of a block of 4 inputs in scratch memory: of 16 tokens or of one.
constexpr size_t BlockBytes(int tokens) {
  return tokens == 1 ? kTileInputs : kMaxTokens * kTileInputs;
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
      _mm512_store_si512(to + static_cast<size_t>(k) * kMaxTokens + i * 64,
                         r[i]);
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

// `tokens` tokens by `groups` groups without a zero tile: each broadcast
// serves all groups.
template <int tokens, int groups>
TF_POF_INLINE void DotDense(const uint8_t* x, const __m512i weights[groups],
                            __m512i sums[tokens][groups]) {
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) {
    const __m512i v = PinnedBroadcast(reinterpret_cast<const uint32_t*>(x) + t);
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) PinnedDot(&sums[t][g], v, weights[g]);
  }
}

// The tiles of a pair of groups alternate: see PackTiles.
constexpr size_t kPairBytes = 2 * kTileOutputs * kTileInputs;

// One token reads each weight once, as fast as the caches give them: `chains`
// sums of each of two groups, or dot products would wait for each other.
template <int chains>
TF_POF_INLINE void RunDenseToken(const uint8_t* x, const int8_t* weights,
                                 uint32_t count, __m512i sums[1][2]) {
  __m512i more[chains][2];
#pragma GCC unroll 8
  for (int c = 0; c < chains; ++c) {
    more[c][0] = more[c][1] = _mm512_setzero_si512();
  }
  const auto dot = [](const uint8_t* from, const int8_t* w, __m512i two[2]) {
    const __m512i v = PinnedBroadcast(reinterpret_cast<const uint32_t*>(from));
    PinnedDotLoaded(&two[0], v, w);
    PinnedDotLoaded(&two[1], v, w + 64);
  };
  uint32_t i = 0;
  for (; i + chains <= count; i += chains) {
#pragma GCC unroll 8
    for (int c = 0; c < chains; ++c) {
      const int8_t* w = weights + c * kPairBytes;
      _mm_prefetch(reinterpret_cast<const char*>(w) + kPrefetch, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(w) + kPrefetch + 64,
                   _MM_HINT_T0);
      dot(x + c * kTileInputs, w, more[c]);
    }
    weights += chains * kPairBytes;
    x += chains * kTileInputs;
  }
  for (; i < count; ++i) {
    dot(x, weights, more[0]);
    weights += kPairBytes;
    x += kTileInputs;
  }
#pragma GCC unroll 8
  for (int c = 0; c < chains; ++c) {
    sums[0][0] = _mm512_add_epi32(sums[0][0], more[c][0]);
    sums[0][1] = _mm512_add_epi32(sums[0][1], more[c][1]);
  }
}

// The loop of RunDenseGroups() for two tokens in one statement: gcc 12 copies
// so few sums before and behind each dot product.
TF_POF_INLINE void RunDenseTwo(const uint8_t* x, size_t block_bytes,
                               const int8_t* first, const int8_t* second,
                               size_t count, __m512i sums[2][4]) {
  static_assert(kPairBytes == 128, "see below");
  __m512i a, b, c, d, v;
  // clang-format off
#define TF_POF_TOKEN(place, t)            \
  "vpbroadcastd " place "(%[x]), %[v]\n\t" \
  "vpdpbusd %[a], %[v], %[a" t "]\n\t"     \
  "vpdpbusd %[b], %[v], %[b" t "]\n\t"     \
  "vpdpbusd %[c], %[v], %[c" t "]\n\t"     \
  "vpdpbusd %[d], %[v], %[d" t "]\n\t"
  // clang-format on
  asm volatile(
      ".p2align 5\n1:\n\t"
      "vmovdqa64 (%[first]), %[a]\n\t"
      "vmovdqa64 64(%[first]), %[b]\n\t"
      "vmovdqa64 (%[second]), %[c]\n\t"
      "vmovdqa64 64(%[second]), %[d]\n\t"  //
      TF_POF_TOKEN("", "0") TF_POF_TOKEN("4", "1")
      "sub $-128, %[first]\n\t"
      "sub $-128, %[second]\n\t"
      "add %[block], %[x]\n\t"
      "dec %[count]\n\t"
      "jne 1b"
      : [x] "+r"(x), [first] "+r"(first), [second] "+r"(second),
        [count] "+r"(count), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c),
        [d] "=&v"(d), [v] "=&v"(v), [a0] "+v"(sums[0][0]),
        [b0] "+v"(sums[0][1]), [c0] "+v"(sums[0][2]), [d0] "+v"(sums[0][3]),
        [a1] "+v"(sums[1][0]), [b1] "+v"(sums[1][1]), [c1] "+v"(sums[1][2]),
        [d1] "+v"(sums[1][3])
      : [block] "r"(block_bytes)
      : "cc", "memory");
#undef TF_POF_TOKEN
}

// There are sums enough that dot products do not wait for each other.
template <int tokens, int groups>
TF_POF_INLINE void RunDenseGroups(const uint8_t* x, size_t block_bytes,
                                  const int8_t* weights, uint32_t count,
                                  __m512i sums[tokens][groups]) {
  const int8_t* pairs[groups / 2];
#pragma GCC unroll 2
  for (int i = 0; i < groups / 2; ++i) {
    pairs[i] = weights + i * count * kPairBytes;
  }
  if constexpr (tokens == 2 && groups == 4) {
    RunDenseTwo(x, block_bytes, pairs[0], pairs[1], count, sums);
    return;
  }
  // To where the next groups have the same inputs; rows that do not stay in
  // the L1 cache do better without.
  const size_t ahead = count <= 256 ? count * groups * 64 : 0;
  for (uint32_t i = 0; i < count; ++i) {
    __m512i loaded[groups];
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) {
      const int8_t* w = pairs[g / 2] + g % 2 * 64;
      loaded[g] = _mm512_load_si512(w);
      if (tokens >= 8) {
        _mm_prefetch(reinterpret_cast<const char*>(w) + ahead, _MM_HINT_T1);
      }
    }
#pragma GCC unroll 2
    for (int j = 0; j < groups / 2; ++j) pairs[j] += kPairBytes;
    DotDense<tokens, groups>(x, loaded, sums);
    x += block_bytes;
  }
}

// The 16 outputs of four vectors of sums as 64 bytes, in order.
TF_POF_INLINE __m512i NarrowInOrder(const __m512i sums[4],
                                    const __m512 scales[4],
                                    const Epilogue& epilogue) {
  __m512i values[4];
  Scale(epilogue, sums, scales, values);
  const __m512i narrow = Narrow(values, epilogue);
  const __m512i order =
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(order, narrow);
  return _mm512_xor_si512(Activate(epilogue, bytes), _mm512_set1_epi8(-128));
}

// Stores tokens [first + t, first + tokens) of a task as int8, as far as there
// are any. Not a loop: gcc 12 unrolls it past the last token where sanitizers
// check it, and then warns of what is read there.
template <int tokens, int groups, int t = 0>
TF_POF_INLINE void StoreDenseTokens(const Epilogue& epilogue, const Task& task,
                                    int column, int first,
                                    const __m512 scales[4],
                                    const __m512i sums[tokens][groups]) {
  if (first + t >= task.tokens) return;
  // Four vectors are one token of 64 outputs or two of 32.
  constexpr int kTogether = 4 / groups;
  constexpr int kNext = t + kTogether - 1 < tokens ? t + kTogether - 1 : t;
  const __m512i values[4] = {sums[t][0], sums[t][1], sums[kNext][2 % groups],
                             sums[kNext][3 % groups]};
  const __m512i bytes = NarrowInOrder(values, scales, epilogue);
  int8_t* to =
      static_cast<int8_t*>(task.output) + (first + t) * task.stride + column;
  if constexpr (groups == 4) {
    _mm512_storeu_si512(to, bytes);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_castsi512_si256(bytes));
    if (first + t + 1 >= task.tokens) return;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + task.stride),
                        _mm512_extracti64x4_epi64(bytes, 1));
  }
  if constexpr (t + kTogether < tokens) {
    StoreDenseTokens<tokens, groups, t + kTogether>(epilogue, task, column,
                                                    first, scales, sums);
  }
}

// Stores tokens [first, first + tokens) of a task, as far as there are any.
template <int tokens, int groups>
TF_POF_INLINE void StoreDenseGroups(const Epilogue& epilogue, const Task& task,
                                    int n, int first,
                                    const __m512i sums[tokens][groups]) {
  const int column = n - task.unit_begin * kUnit;
  if (epilogue.type != kTfPofInt8) {
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) {
      if (first + t >= task.tokens) return;
#pragma GCC unroll 4
      for (int g = 0; g < groups; ++g) {
        StoreLanes(sums[t][g], epilogue, n + g * kTileOutputs, kTileOutputs,
                   task.output,
                   (first + t) * task.stride + column + g * kTileOutputs);
      }
    }
    return;
  }
  __m512 scales[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    scales[i] =
        _mm512_loadu_ps(epilogue.scales + n + i % groups * kTileOutputs);
  }
  StoreDenseTokens<tokens, groups>(epilogue, task, column, first, scales, sums);
}

// Outputs from n on of all tokens of the task; false if tiles are missing, or
// groups of outputs, or the first is not the first of a pair.
template <int tokens, int groups>
bool RunDense(const Tiles& p, const Epilogue& epilogue, const Task& task, int n,
              int end) {
  const uint32_t* start = p.starts.data + n / kTileOutputs;
  const uint32_t count = static_cast<uint32_t>((p.inputs + 3) / 4);
  if (n / kTileOutputs % 2 != 0 || n + groups * kTileOutputs > end ||
      start[groups] - start[0] != groups * count) {
    return false;
  }
  const int8_t* weights = p.weights.data + static_cast<size_t>(start[0]) * 64;
  for (int first = 0; first < task.tokens; first += tokens) {
    __m512i sums[tokens][groups];
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 4
      for (int g = 0; g < groups; ++g) {
        sums[t][g] = _mm512_loadu_si512(p.bias.data + n + g * kTileOutputs);
      }
    }
    if constexpr (tokens == 1) {
      RunDenseToken<4>(task.scratch, weights, count, sums);
    } else {
      RunDenseGroups<tokens, groups>(task.scratch + first * kTileInputs,
                                     BlockBytes(task.tokens), weights, count,
                                     sums);
    }
    StoreDenseGroups<tokens, groups>(epilogue, task, n, first, sums);
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
    constexpr int kAtOnce = tokens < 8 ? tokens : 8;
    constexpr int kGroups = tokens == 2 || tokens == 4 ? 4 : 2;
    if (RunDense<kAtOnce, kGroups>(p, epilogue, task, n, end)) {
      n += (kGroups - 1) * kTileOutputs;
      continue;
    }
    // Of a pair tiles alternate, so that it has to be taken as one.
    if (kGroups == 4 && RunDense<kAtOnce, 2>(p, epilogue, task, n, end)) {
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
  return static_cast<size_t>(p.inputs + 63) / 64 * 64 * kMaxTokens;
}

void RunTilesAvx512(const void* packed, const Epilogue& epilogue,
                    const Task& task) {
  const auto& p = *static_cast<const Tiles*>(packed);
  if (!task.prepared) {
    PrepareInput(static_cast<const int8_t*>(task.input), task.tokens, p.inputs,
                 task.scratch);
  }
  if (task.tokens == 1) {
    RunTokens<1, 4>(p, epilogue, task);
  } else if (task.tokens == 2) {
    RunTokens<2, 4>(p, epilogue, task);
  } else if (task.tokens <= 4) {
    RunTokens<4, 2>(p, epilogue, task);
  } else if (task.tokens <= 8) {
    RunTokens<8, 1>(p, epilogue, task);
  } else {
    RunTokens<16, 1>(p, epilogue, task);
  }
}

}  // namespace tf_pof
