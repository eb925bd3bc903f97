// The "windows" kernel on AVX512-VNNI and VBMI: unstructured.
#include "kernels_x86.h"
#include "rows_avx512.h"
#include "windows.h"
#include "windows_steps_avx512.h"

namespace tf_pof {
namespace {

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

// Bytes of 256; `high` has the top bits of the indices.
TF_POF_INLINE __m512i OrderBytes(const __m512i from[4], __m512i index,
                                 __mmask64 high) {
  __m512i low_bytes = index, high_bytes = index;
  asm("vpermi2b %2, %1, %0" : "+v"(low_bytes) : "v"(from[0]), "v"(from[1]));
  asm("vpermi2b %2, %1, %0" : "+v"(high_bytes) : "v"(from[2]), "v"(from[3]));
  return _mm512_mask_mov_epi8(low_bytes, high, high_bytes);
}

// Puts a unit's bytes into the order of the outputs and stores them: 64 at a
// time, of the last of these those in `last`.
template <bool has_table, int lines>
void StoreOrdered(const uint8_t* lane_bytes, const uint8_t* table,
                  const Task& task, int8_t* output, __mmask64 last,
                  const uint8_t* bytes) {
  const __m512i flip = _mm512_set1_epi8(-128);
  // Copies: what is stored might be anywhere for all that compilers know.
  const int tokens = task.tokens;
  const size_t stride = task.stride;
  __m512i index[lines];
  __mmask64 high[lines];
#pragma GCC unroll 4
  for (int i = 0; i < lines; ++i) {
    index[i] = _mm512_load_si512(lane_bytes + i * 64);
    high[i] = _mm512_movepi8_mask(index[i]);
  }
  for (int t = 0; t < tokens; ++t) {
    __m512i from[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) from[i] = _mm512_load_si512(bytes + i * 64);
#pragma GCC unroll 4
    for (int i = 0; i < lines; ++i) {
      __m512i out = OrderBytes(from, index[i], high[i]);
      if (has_table) {
        // By values, which are not + 128.
        out = _mm512_xor_si512(LookUpBytes(table + 128, table, out), flip);
      }
      StoreFirst(output + i * 64, i < lines - 1 ? ~__mmask64{0} : last, out);
    }
    bytes += kUnit;
    output += stride;
  }
}

template <bool has_table>
void StoreUnit(const Windows& p, const uint8_t* table, const Task& task,
               int unit, const uint8_t* bytes) {
  using Function = void (*)(const uint8_t*, const uint8_t*, const Task&,
                            int8_t*, __mmask64, const uint8_t*);
  constexpr Function kStore[] = {
      StoreOrdered<has_table, 1>, StoreOrdered<has_table, 2>,
      StoreOrdered<has_table, 3>, StoreOrdered<has_table, 4>};
  const int begin = unit * kUnit;
  const int count = Min(kUnit, p.outputs - begin);
  const int lines = CeilDiv(count, 64);
  kStore[lines - 1](
      p.lane_bytes.data + begin, table, task,
      static_cast<int8_t*>(task.output) + (unit - task.unit_begin) * kUnit,
      FirstBytes(count - (lines - 1) * 64), bytes);
}

__attribute__((noinline)) void StoreBytes(const Windows& p,
                                          const Epilogue& epilogue,
                                          const Task& task, int unit,
                                          const uint8_t* bytes) {
  if (epilogue.table == nullptr) {
    StoreUnit<false>(p, nullptr, task, unit, bytes);
  } else {
    StoreUnit<true>(p, epilogue.table, task, unit, bytes);
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
