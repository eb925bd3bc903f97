// The "windows" kernel on AVX512-VNNI and VBMI: unstructured.
//
// A step is one vpermb and one vpdpbusd a token. The first runs in two of the
// vector pipes of Zen 5, the second in two, of which they share one: 10.7
// cycles for 16 tokens at best, 11.2 in the order below.
#include "kernels_x86.h"
#include "rows_avx512.h"
#include "windows.h"

namespace tf_pof {
namespace {

constexpr int kMaxTokens = 16;
constexpr size_t kPrefetch = 4096;

// A block of tokens in scratch memory.
struct Block {
  // [2 * windows][tokens][64] bytes, value + 128: both copies.
  uint8_t* inputs;
  // [groups][tokens][16] sums between tiles of the inputs.
  int32_t* spill;
  // [tokens][256] of a unit: sums by lane, or bytes by LaneByte.
  int32_t* sums;
  uint8_t* bytes;
};

size_t InputBytes(const Windows& p) {
  return static_cast<size_t>(p.windows) * 2 * kMaxTokens * kWindow;
}

size_t SpillBytes(const Windows& p) {
  const size_t groups = p.tiles == 1 ? 0 : p.groups;
  return groups * kMaxTokens * kLanes * sizeof(int32_t);
}

constexpr size_t kUnitSums = kMaxTokens * kUnit * sizeof(int32_t);
constexpr size_t kUnitBytes = kMaxTokens * kUnit;

Block MakeBlock(const Windows& p, uint8_t* scratch) {
  Block block;
  block.inputs = scratch;
  block.spill = reinterpret_cast<int32_t*>(scratch + InputBytes(p));
  block.sums =
      reinterpret_cast<int32_t*>(scratch + InputBytes(p) + SpillBytes(p));
  block.bytes = scratch + InputBytes(p) + SpillBytes(p) + kUnitSums;
  return block;
}

// Stores both copies of one token, `count` inputs from `row` on; `to` is its
// place in window 0 and `stride` leads to the next window.
template <int windows>
void PrepareToken(const int8_t* row, int count, uint8_t* to, size_t stride) {
  const __m512i flip = _mm512_set1_epi8(-128);
  __m512i from[windows], moved[windows];
  const bool whole = count == windows * kWindow;
#pragma GCC unroll 16
  for (int j = 0; j < windows; ++j) {
    const int8_t* window = row + j * kWindow;
    const int rest = count - j * kWindow;
    const __m512i values = whole ? _mm512_loadu_si512(window)
                                 : _mm512_maskz_loadu_epi8(
                                       rest > 0 ? FirstBytes(rest) : 0, window);
    from[j] = _mm512_xor_si512(flip, values);
    _mm512_store_si512(to + j * stride, from[j]);
  }
  // Lane s has to come from window (j + s) mod windows: by the bits of s.
#define TF_POF_MOVE(source, target, distance, mask)                      \
  _Pragma("GCC unroll 16") for (int j = 0; j < windows; ++j) {           \
    target[j] = _mm512_mask_mov_epi32(source[j], mask,                   \
                                      source[(j + distance) % windows]); \
  }
  TF_POF_MOVE(from, moved, 1, 0xAAAA)
  TF_POF_MOVE(moved, from, 2, 0xCCCC)
  TF_POF_MOVE(from, moved, 4, 0xF0F0)
  TF_POF_MOVE(moved, from, 8, 0xFF00)
#undef TF_POF_MOVE
#pragma GCC unroll 16
  for (int j = 0; j < windows; ++j) {
    _mm512_store_si512(to + (windows + j) * stride, from[j]);
  }
}

using PrepareFunction = void (*)(const int8_t*, int, uint8_t*, size_t);
constexpr PrepareFunction kPrepare[kMaxWindows] = {
    PrepareToken<1>,  PrepareToken<2>,  PrepareToken<3>,  PrepareToken<4>,
    PrepareToken<5>,  PrepareToken<6>,  PrepareToken<7>,  PrepareToken<8>,
    PrepareToken<9>,  PrepareToken<10>, PrepareToken<11>, PrepareToken<12>,
    PrepareToken<13>, PrepareToken<14>, PrepareToken<15>, PrepareToken<16>,
};

// Tokens past the task's repeat its last: what they give is not stored.
void Prepare(const Windows& p, const Task& task, int tokens, int tile,
             uint8_t* to) {
  const int begin = tile * p.windows * kWindow;
  const int rest = p.inputs - begin;
  const int count = rest < p.windows * kWindow ? rest : p.windows * kWindow;
  for (int t = 0; t < tokens; ++t) {
    const int source = t < task.tokens ? t : task.tokens - 1;
    kPrepare[p.windows - 1](static_cast<const int8_t*>(task.input) +
                                static_cast<size_t>(source) * p.inputs + begin,
                            count, to + t * kWindow,
                            static_cast<size_t>(tokens) * kWindow);
  }
}

// The picked inputs of token t. With a base and an index register the
// instruction spreads over the pipes better than with one register.
template <int t>
TF_POF_INLINE __m512i Pick(const uint8_t* inputs, size_t window,
                           __m512i picks) {
  __m512i out;
  asm volatile("vpermb %c4(%1,%2), %3, %0"
               : "=v"(out)
               : "r"(inputs), "r"(window), "v"(picks), "i"(t * kWindow));
  return out;
}

// Picks between dot products of three tokens before: the best order of those
// measured.
template <int tokens, int t>
TF_POF_INLINE void StepTokens(const uint8_t* inputs, size_t window,
                              __m512i picks, __m512i weights,
                              __m512i picked[tokens], __m512i sums[tokens]) {
  if constexpr (t < tokens) {
    if constexpr (t >= 3) PinnedDot(&sums[t - 3], picked[t - 3], weights);
    picked[t] = Pick<t>(inputs, window, picks);
    if constexpr (t >= 2) PinnedDot(&sums[t - 2], picked[t - 2], weights);
    if constexpr (t + 1 < tokens) {
      picked[t + 1] = Pick<t + 1>(inputs, window, picks);
    }
    // The pipes are chosen as instructions come in, better so by 2 to 3 %.
    if constexpr (tokens >= 8) asm volatile("nop\n\tnop");
    StepTokens<tokens, t + 2>(inputs, window, picks, weights, picked, sums);
  } else {
    constexpr int done = t >= 3 ? t - 3 : 0;
#pragma GCC unroll 4
    for (int i = done; i < tokens; ++i) {
      PinnedDot(&sums[i], picked[i], weights);
    }
  }
}

// Where steps go on: those of a group follow those of the one before.
struct Steps {
  const uint16_t* window;
  const WindowStep* step;
};

template <int tokens>
TF_POF_INLINE void RunStep(const uint8_t* inputs, int i, const Steps& at,
                           __m512i sums[tokens]) {
  const auto* step = reinterpret_cast<const uint8_t*>(at.step + i);
  const __m512i picks = PinnedLoad(step);
  PinnedPrefetch(step + kPrefetch);
  const __m512i weights = PinnedLoad(step + 64);
  PinnedPrefetch(step + kPrefetch + 64);
  __m512i picked[tokens];
  StepTokens<tokens, 0>(
      inputs, static_cast<size_t>(at.window[i]) * tokens * kWindow, picks,
      weights, picked, sums);
}

// All steps of a group; `chains` sums of each token, so that with few tokens
// one dot product need not wait for the one before.
template <int tokens, int chains>
TF_POF_INLINE Steps RunSteps(const uint8_t* inputs, Steps at,
                             const WindowStep* end, __m512i sums[tokens]) {
  __m512i more[chains][tokens];
#pragma GCC unroll 4
  for (int c = 1; c < chains; ++c) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) more[c][t] = _mm512_setzero_si512();
  }
  for (; chains > 1 && end - at.step >= chains;
       at.step += chains, at.window += chains) {
    RunStep<tokens>(inputs, 0, at, sums);
#pragma GCC unroll 4
    for (int c = 1; c < chains; ++c) {
      RunStep<tokens>(inputs, c, at, more[c]);
    }
  }
  if ((end - at.step) % 2 != 0) {
    RunStep<tokens>(inputs, 0, at, sums);
    ++at.step;
    ++at.window;
  }
  for (; at.step != end; at.step += 2, at.window += 2) {
    RunStep<tokens>(inputs, 0, at, sums);
    RunStep<tokens>(inputs, 1, at, sums);
  }
#pragma GCC unroll 4
  for (int c = 1; c < chains; ++c) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
      sums[t] = _mm512_add_epi32(sums[t], more[c][t]);
    }
  }
  return at;
}

// Interleaves what Narrow gave for four groups and four tokens to 64 bytes a
// token, in the order of LaneByte.
TF_POF_INLINE void JoinGroups(const __m512i narrow[4], uint8_t* bytes) {
  const __m512i low01 = _mm512_unpacklo_epi32(narrow[0], narrow[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(narrow[0], narrow[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(narrow[2], narrow[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(narrow[2], narrow[3]);
  _mm512_store_si512(bytes, _mm512_unpacklo_epi64(low01, low23));
  _mm512_store_si512(bytes + kUnit, _mm512_unpackhi_epi64(low01, low23));
  _mm512_store_si512(bytes + 2 * kUnit, _mm512_unpacklo_epi64(high01, high23));
  _mm512_store_si512(bytes + 3 * kUnit, _mm512_unpackhi_epi64(high01, high23));
}

// Puts a unit's bytes into the order of the outputs and stores them.
template <bool has_table>
TF_POF_INLINE void StoreOrdered(const Windows& p, const uint8_t* table,
                                const Task& task, int unit,
                                const uint8_t* bytes) {
  const int begin = unit * kUnit;
  const int end = begin + kUnit < p.outputs ? begin + kUnit : p.outputs;
  const __m512i flip = _mm512_set1_epi8(-128);
  auto* output =
      static_cast<int8_t*>(task.output) + (unit - task.unit_begin) * kUnit;
  // Copies: what is stored might be anywhere for all that compilers know.
  const int tokens = task.tokens;
  const size_t stride = task.stride;
  // One store, along the rows: from row to row the processor would fetch rows
  // after the last, which may be another thread's.
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 1
    for (int n = begin; n < end; n += 64) {
      __m512i out = LookUpBytes(bytes, bytes + 128,
                                _mm512_load_si512(p.lane_bytes.data + n));
      if (has_table) {
        // By values, which are not + 128.
        out = _mm512_xor_si512(LookUpBytes(table + 128, table, out), flip);
      }
      StoreFirst(output + n - begin, FirstBytes(end - n), out);
    }
    bytes += kUnit;
    output += stride;
  }
}

__attribute__((noinline)) void StoreBytes(const Windows& p,
                                          const Epilogue& epilogue,
                                          const Task& task, int unit,
                                          const uint8_t* bytes) {
  if (epilogue.table == nullptr) {
    StoreOrdered<false>(p, nullptr, task, unit, bytes);
  } else {
    StoreOrdered<true>(p, epilogue.table, task, unit, bytes);
  }
}

// The lane whose byte LaneByte names.
int LaneOf(uint8_t byte) {
  return byte / 64 * 64 + byte / 4 % 4 * 16 + byte / 16 % 4 * 4 + byte % 4;
}

__attribute__((noinline, cold)) void StoreSums(const Windows& p,
                                               const Epilogue& epilogue,
                                               const Task& task, int unit,
                                               const int32_t* sums) {
  const int begin = unit * kUnit;
  const int end = begin + kUnit < p.outputs ? begin + kUnit : p.outputs;
  const int column = (unit - task.unit_begin) * kUnit;
  for (int t = 0; t < task.tokens; ++t) {
    const size_t row = t * task.stride + column;
    for (int n = begin; n < end; ++n) {
      const int32_t sum = sums[t * kUnit + LaneOf(p.lane_bytes.data[n])];
      const size_t at = row + n - begin;
      if (epilogue.type == kTfPofFloat32) {
        static_cast<float*>(task.output)[at] =
            static_cast<float>(sum) * epilogue.scales[n];
      } else {
        static_cast<int32_t*>(task.output)[at] = sum;
      }
    }
  }
}

// Keeps a finished group for when its unit is complete. `narrow` collects
// four groups of each four tokens.
template <int tokens>
TF_POF_INLINE void KeepGroup(const float* lane_scales, const Epilogue& epilogue,
                             const Block& block, unsigned in_unit, bool last,
                             __m512i (*narrow)[4], const __m512i sums[tokens]) {
  if (__builtin_expect(epilogue.type != kTfPofInt8, 0)) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
      _mm512_store_si512(block.sums + t * kUnit + in_unit * kLanes, sums[t]);
    }
    return;
  }
  const __m512 scale = _mm512_loadu_ps(lane_scales);
  const __m512 scales[4] = {scale, scale, scale, scale};
#pragma GCC unroll 4
  for (int t = 0; t < tokens; t += 4) {
    __m512i four[4], values[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      four[i] = sums[t + i < tokens ? t + i : tokens - 1];
    }
    Scale(epilogue, four, scales, values);
    narrow[t / 4][in_unit % 4] = NarrowSigned(values, epilogue);
    if (last || in_unit % 4 == 3) {
      JoinGroups(narrow[t / 4], block.bytes + t * kUnit + in_unit / 4 * 64);
    }
  }
}

template <int tokens, int chains>
__attribute__((noinline)) void RunTokens(const Windows& p,
                                         const Epilogue& epilogue,
                                         const Task& task) {
  constexpr int kGroups = kUnit / kLanes;
  // Copies: what is stored might be anywhere for all that compilers know.
  const Block block = MakeBlock(p, task.scratch);
  const Epilogue outputs = epilogue;
  const int tiles = p.tiles;
  const int32_t* const biases = p.bias.data;
  const float* const scales = p.scales.data;
  const WindowStep* const steps = p.steps.data;
  const unsigned first = task.unit_begin * kGroups;
  const unsigned last = Min(task.unit_end * kGroups, p.groups);
  alignas(64) __m512i narrow[(tokens + 3) / 4][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    if (!task.prepared || tiles > 1) {
      Prepare(p, task, tokens, tile, block.inputs);
    }
    const uint32_t* start =
        p.first_step.data + static_cast<size_t>(tile) * p.groups + first;
    Steps at = {p.step_windows.data + *start, steps + *start};
    int32_t* spill = block.spill;
    for (unsigned group = first; group < last; ++group) {
      __m512i sums[tokens];
      if (tile == 0) {
        const __m512i bias = _mm512_loadu_si512(biases + group * kLanes);
#pragma GCC unroll 16
        for (int t = 0; t < tokens; ++t) sums[t] = bias;
      } else {
#pragma GCC unroll 16
        for (int t = 0; t < tokens; ++t) {
          sums[t] = _mm512_load_si512(spill + t * kLanes);
        }
      }
      at = RunSteps<tokens, chains>(block.inputs, at, steps + *++start, sums);
      if (tile < tiles - 1) {
#pragma GCC unroll 16
        for (int t = 0; t < tokens; ++t) {
          _mm512_store_si512(spill + t * kLanes, sums[t]);
        }
        spill += tokens * kLanes;
        continue;
      }
      spill += tokens * kLanes;
      const unsigned in_unit = group % kGroups;
      const bool unit_ends = group == last - 1 || in_unit == kGroups - 1;
      KeepGroup<tokens>(scales + group * kLanes, outputs, block, in_unit,
                        unit_ends, narrow, sums);
      if (!unit_ends) continue;
      const int unit = static_cast<int>(group / kGroups);
      if (outputs.type == kTfPofInt8) {
        StoreBytes(p, epilogue, task, unit, block.bytes);
      } else {
        StoreSums(p, epilogue, task, unit, block.sums);
      }
    }
  }
}

}  // namespace

size_t WindowsAvx512Scratch(const void* packed) {
  const auto& p = *static_cast<const Windows*>(packed);
  return InputBytes(p) + SpillBytes(p) + kUnitSums + kUnitBytes;
}

void RunWindowsAvx512(const void* packed, const Epilogue& epilogue,
                      const Task& task) {
  const auto& p = *static_cast<const Windows*>(packed);
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
