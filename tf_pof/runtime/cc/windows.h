// Packing for the "windows" kernel: unstructured weights, tokens in rows.
//
// A tile of the inputs of 16 tokens lies in the L1 cache as windows of 64
// inputs, in two copies: as they are, and with their 32-bit lanes moved
// diagonally, lane s of window j coming from window (j + s) mod n. Sixteen
// outputs, a group, are one 32-bit lane of a vector each. A step takes one
// window, picks any four of its 64 inputs for each output (vpermb) and
// multiplies them by four weights of each output (vpdpbusd).
//
// Which windows a group steps through is chosen here: each nonzero may be
// taken from its window in either copy, so that about 0.86 of the weights of
// steps are nonzeros at 90 % sparsity.
#ifndef TF_POF_RUNTIME_CC_WINDOWS_H_
#define TF_POF_RUNTIME_CC_WINDOWS_H_

#include "buffer.h"
#include "kernel.h"

namespace tf_pof {

inline constexpr int kLanes = 16;   // outputs of a group
inline constexpr int kWindow = 64;  // inputs of a window
// Windows of a tile, in one copy: so many if that is all of the inputs, else
// fewer, which leave more of the L1 cache to the steps.
inline constexpr int kMaxWindows = 16;
inline constexpr int kTileWindows = 12;
inline constexpr int kPicks = 4;  // inputs that a lane takes in a step

struct WindowTiles {
  int count;
  int windows;  // of a tile, in one copy
};

static inline WindowTiles TilesOf(int inputs) {
  const int windows = CeilDiv(inputs, kWindow);
  const int count = windows <= kMaxWindows ? 1 : CeilDiv(windows, kTileWindows);
  return {count, CeilDiv(windows, count)};
}

struct WindowStep {
  uint8_t picks[kLanes * kPicks];  // inputs in the window
  int8_t weights[kLanes * kPicks];
};

struct Windows {
  int inputs;
  int outputs;
  int groups;  // units are whole groups but for the last
  int tiles;
  int windows;  // of a tile, in one copy
  // By output: where in its unit's 256 lanes it is, as the bytes that the
  // kernel assembles are ordered; see LaneByte.
  Buffer<uint8_t> lane_bytes;
  Buffer<int32_t> bias;  // [groups, 16] by lane, corrected
  Buffer<float> scales;  // [groups, 16] by lane
  // By tile * groups + group, and one more for the end.
  Buffer<uint32_t> first_step;
  Buffer<uint16_t> step_windows;  // below `windows` the first copy's
  Buffer<WindowStep> steps;
};

// The kernel narrows four groups at a time: lane l of group g of a unit ends
// up at this byte of the unit's 256.
static inline uint8_t LaneByte(int group, int lane) {
  return static_cast<uint8_t>(group / 4 * 64 + lane / 4 * 16 + group % 4 * 4 +
                              lane % 4);
}

TfPofStatus PackWindows(const Layer& layer, void** packed);
void FreeWindows(void* packed);
size_t WindowsBytes(const void* packed);

// windows_stored.cc: `packed` has its sizes and no arrays yet.
void ListWindows(const void* packed, StoredArrays* arrays);
bool TakeWindows(const StoredArrays& arrays, Windows* packed);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOWS_H_
