// What a group of outputs reads of a tile; see windows.h.
#ifndef TF_POF_RUNTIME_CC_WINDOW_INPUTS_H_
#define TF_POF_RUNTIME_CC_WINDOW_INPUTS_H_

#include "unit_rows.h"
#include "windows.h"

namespace tf_pof {

// Where each four inputs of a tile are in the second copy.
struct SecondWindows {
  uint8_t of[kMaxWindows * kLanes];

  explicit SecondWindows(int windows) {
    for (int a = 0; a < windows; ++a) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const int b = (a - lane) % windows;
        of[a * kLanes + lane] = static_cast<uint8_t>(b < 0 ? b + windows : b);
      }
    }
  }
};

// Writes which bits are set, each plus `first`, and as many as kAtOnce more
// than there are: most often without a branch that could be foreseen wrongly.
inline constexpr int kAtOnce = 12;
static inline int ListOnes(uint64_t bits, int first, uint16_t* to) {
  constexpr uint64_t kLast = uint64_t{1} << 63;
  const int count = CountOnes(bits);
  for (int i = 0; i < kAtOnce; ++i) {
    to[i] = static_cast<uint16_t>(first + __builtin_ctzll(bits | kLast));
    bits &= bits - 1;
  }
  for (int i = kAtOnce; i < count; ++i) {
    to[i] = static_cast<uint16_t>(first + __builtin_ctzll(bits));
    bits &= bits - 1;
  }
  return count;
}

// The inputs of a tile that are not zero, of a group's lanes.
struct GroupInputs {
  Buffer<uint16_t> inputs;
  uint16_t* of[kLanes];
  int count[kLanes];

  bool Find(const UnitRows& rows, int first_word, int words,
            const int32_t* outputs, int lanes) {
    size_t total = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      const uint64_t* masks = rows.mask(outputs[lane]) + first_word;
      for (int a = 0; a < words; ++a) total += CountOnes(masks[a]);
    }
    if (!inputs.Resize(total + kAtOnce)) return false;
    uint16_t* to = inputs.data;
    for (int lane = 0; lane < lanes; ++lane) {
      const uint64_t* masks = rows.mask(outputs[lane]) + first_word;
      of[lane] = to;
      for (int a = 0; a < words; ++a) to += ListOnes(masks[a], a * kWindow, to);
      count[lane] = static_cast<int>(to - of[lane]);
    }
    return true;
  }
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_INPUTS_H_
