// The steps of the "windows" kernel.
//
// A step is one vpermb and one vpdpbusd a token. The first runs in two of the
// vector pipes of Zen 5, the second in two, of which they share one: 10.7
// cycles for 16 tokens at best, 10.9 in the order below.
#ifndef TF_POF_RUNTIME_CC_WINDOWS_STEPS_AVX512_H_
#define TF_POF_RUNTIME_CC_WINDOWS_STEPS_AVX512_H_

#include "avx512.h"
#include "windows.h"

namespace tf_pof {

inline constexpr int kMaxTokens = 16;
// Weights of a whole model come from memory; those of one layer, from the L2
// cache, would take less. A multiple of 4 KB shares its sets of the L1 cache
// with what is read.
inline constexpr size_t kPrefetch = 5120;

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

// A step of 16 tokens. P picks the inputs of the next token, D takes the dot
// products of the next, n does nothing; p, w and i load picks, weights and the
// window, and 1 and 2 prefetch picks and weights. The pipes are chosen as
// instructions come in: this is what was best of thousands of orders that
// differ in a few places, a step takes 9 % less than with picks and dot
// products in turns.
inline constexpr char kOrder[] =
    "piw12"
    "PnnnPPPnnPPnnPPPPnPnPnPnPDnDDPPDDnnDnnnDnDnnDnDnnDnDnDnnnDnnDnDnnn";

// What a step has in registers.
struct StepState {
  __m512i picks;
  __m512i weights;
  size_t window;
  __m512i picked[kMaxTokens];
};

// Bytes from the first window to `window`.
TF_POF_INLINE size_t PinnedWindow(const uint16_t* window) {
  static_assert(kMaxTokens * kWindow == 1 << 10);
  size_t out;
  asm volatile("movzwl %1, %k0\n\tshl $10, %0" : "=r"(out) : "m"(*window));
  return out;
}

template <int at, int picks, int dots>
TF_POF_INLINE void RunOrder(const uint8_t* inputs, const uint8_t* step,
                            const uint16_t* window, StepState* state,
                            __m512i sums[kMaxTokens]) {
  constexpr char kNow = kOrder[at];
  if constexpr (kNow == 'P') {
    state->picked[picks] = Pick<picks>(inputs, state->window, state->picks);
  } else if constexpr (kNow == 'D') {
    PinnedDot(&sums[dots], state->picked[dots], state->weights);
  } else if constexpr (kNow == 'n') {
    asm volatile("nop");
  } else if constexpr (kNow == 'p') {
    state->picks = PinnedLoad(step);
  } else if constexpr (kNow == 'w') {
    state->weights = PinnedLoad(step + 64);
  } else if constexpr (kNow == 'i') {
    state->window = PinnedWindow(window);
  } else if constexpr (kNow == '1') {
    PinnedPrefetch(step + kPrefetch);
  } else if constexpr (kNow == '2') {
    PinnedPrefetch(step + kPrefetch + 64);
  }
  if constexpr (kNow != 0) {
    RunOrder<at + 1, picks + (kNow == 'P'), dots + (kNow == 'D')>(
        inputs, step, window, state, sums);
  } else {
    static_assert(picks == kMaxTokens && dots == kMaxTokens);
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
  if constexpr (tokens == kMaxTokens) {
    StepState state;
    RunOrder<0, 0, 0>(inputs, step, at.window + i, &state, sums);
  } else {
    const __m512i picks = PinnedLoad(step);
    PinnedPrefetch(step + kPrefetch);
    const __m512i weights = PinnedLoad(step + 64);
    PinnedPrefetch(step + kPrefetch + 64);
    __m512i picked[tokens];
    StepTokens<tokens, 0>(inputs,
                          static_cast<size_t>(at.window[i]) * tokens * kWindow,
                          picks, weights, picked, sums);
  }
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

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOWS_STEPS_AVX512_H_
