#include "windows.h"

#include "unit_rows.h"
#include "window_cover.h"
#include "window_inputs.h"
#include "window_order.h"

namespace tf_pof {
namespace {

constexpr int kGroups = kUnit / kLanes;

// The steps of a unit, by tiles, then groups.
struct WindowsPart {
  Buffer<uint16_t> windows;
  Buffer<WindowStep> steps;
  Buffer<size_t> starts;  // of each group, and the end

  bool Pack(const UnitRows& rows, Windows* packed) {
    WindowOrder order(rows, {packed->tiles, packed->windows});
    const bool packs =
        order.Sort() && order.Swap() && PackTiles(rows, order.outputs, packed);
    order.Free();
    return packs;
  }

  bool PackTiles(const UnitRows& rows, const int32_t* order, Windows* packed) {
    uint32_t sums[kUnit] = {};
    GroupInputs inputs = {};
    const SecondWindows second(packed->windows);
    const int count = rows.end - rows.first;
    bool stored = true;
    for (int tile = 0; tile < packed->tiles; ++tile) {
      const int first = tile * packed->windows;
      const int words = Min(packed->windows, rows.words - first);
      for (int lane = 0; stored && lane < count; lane += kLanes) {
        const int lanes = Min(kLanes, count - lane);
        stored = starts.Append(steps.size) &&
                 inputs.Find(rows, first, words, order + lane, lanes) &&
                 PackGroup(rows, first * kWindow, packed->windows, second,
                           inputs, order + lane, lanes, sums + lane);
      }
    }
    inputs.inputs.Free();
    FillLanes(rows, order, sums, packed);
    return stored && starts.Append(steps.size);
  }

  static void FillLanes(const UnitRows& rows, const int32_t* order,
                        const uint32_t sums[kUnit], Windows* packed) {
    for (int i = 0; i < rows.end - rows.first; ++i) {
      const int n = order[i];
      packed->bias.data[rows.first + i] = rows.CorrectedBias(n, 128, sums[i]);
      packed->scales.data[rows.first + i] = rows.layer->scales[n];
      packed->lane_bytes.data[n] = LaneByte(i / kLanes, i % kLanes);
    }
  }

  // Of the tile from `first_input` on. Adds the weights to `sums`, by lane.
  bool PackGroup(const UnitRows& rows, int first_input, int tile_windows,
                 const SecondWindows& second, const GroupInputs& inputs,
                 const int32_t* outputs, int lanes, uint32_t* sums) {
    GroupCover cover;
    cover.Cover(tile_windows, lanes, inputs.of, inputs.count, second.of);

    size_t first_step[kNodes];
    size_t end = steps.size;
    for (int node = 0; node < kNodes; ++node) {
      first_step[node] = end;
      end += cover.steps[node];
    }
    if (!windows.Resize(end) || !steps.Resize(end)) return false;
    for (int node = 0; node < kNodes; ++node) {
      const int window = node < kSide ? node : node - kSide + tile_windows;
      for (int i = 0; i < cover.steps[node]; ++i) {
        windows.data[first_step[node] + i] = static_cast<uint16_t>(window);
      }
    }
    for (int lane = 0; lane < lanes; ++lane) {
      const int8_t* weights = rows.row(outputs[lane]) + first_input;
      sums[lane] += EmitLane(cover.lane[lane], lane, inputs.of[lane],
                             inputs.count[lane], weights, second, first_step);
    }
    return true;
  }

  // Writes a lane's nonzeros to the places that were chosen for them; returns
  // their sum.
  uint32_t EmitLane(const LaneCover& cover, int lane, const uint16_t* inputs,
                    int count, const int8_t* weights,
                    const SecondWindows& second,
                    const size_t first_step[kNodes]) {
    uint8_t left[kSide][kSide];
    memcpy(left, cover.placed, sizeof(left));
    size_t next[kNodes];
    for (int i = 0; i < kNodes; ++i) next[i] = first_step[i] * kPicks;
    WindowStep* const to = steps.data;
    uint32_t sum = 0;
    for (int i = 0; i < count; ++i) {
      const int input = inputs[i];
      const int a = input / kWindow;
      const int b = second.of[input / kPicks];
      const bool in_first = left[a][b] > 0;
      left[a][b] -= in_first;
      const size_t at = next[in_first ? a : kSide + b]++;
      WindowStep& step = to[at / kPicks];
      step.picks[lane * kPicks + at % kPicks] =
          static_cast<uint8_t>(input % kWindow);
      step.weights[lane * kPicks + at % kPicks] = weights[input];
      sum += static_cast<uint32_t>(weights[input]);
    }
    return sum;
  }

  void Free() {
    windows.Free();
    steps.Free();
    starts.Free();
  }
};

// By tiles, then groups of the layer.
bool Join(const WindowsPart* parts, int units, Windows* packed) {
  size_t total = 0;
  for (int unit = 0; unit < units; ++unit) total += parts[unit].steps.size;
  if (!packed->steps.Resize(total) || !packed->step_windows.Resize(total)) {
    return false;
  }
  size_t at = 0;
  for (int tile = 0; tile < packed->tiles; ++tile) {
    for (int unit = 0; unit < units; ++unit) {
      const WindowsPart& part = parts[unit];
      const int first = unit * kGroups;
      const int groups = Min(kGroups, packed->groups - first);
      const size_t* starts = part.starts.data + tile * groups;
      uint32_t* to = packed->first_step.data + tile * packed->groups + first;
      for (int i = 0; i < groups; ++i) {
        to[i] = static_cast<uint32_t>(at + starts[i] - starts[0]);
      }
      part.windows.CopyTo(packed->step_windows.data + at, starts[0],
                          starts[groups]);
      at +=
          part.steps.CopyTo(packed->steps.data + at, starts[0], starts[groups]);
    }
  }
  packed->first_step.data[packed->first_step.size - 1] =
      static_cast<uint32_t>(at);
  return true;
}

}  // namespace

TfPofStatus PackWindows(const Layer& layer, void** packed) {
  auto* p = static_cast<Windows*>(calloc(1, sizeof(Windows)));
  if (p == nullptr) return kTfPofOutOfMemory;
  p->inputs = layer.inputs;
  p->outputs = layer.outputs;
  p->groups = CeilDiv(layer.outputs, kLanes);
  const WindowTiles tiles = TilesOf(layer.inputs);
  p->tiles = tiles.count;
  p->windows = tiles.windows;
  TfPofStatus status = kTfPofOutOfMemory;
  if (layer.stored != nullptr) {
    status = TakeWindows(*layer.stored, p) ? kTfPofOk : kTfPofInvalidArgument;
  } else if (p->lane_bytes.Resize(CeilDiv(layer.outputs, 64) * 64) &&
             p->bias.Resize(p->groups * kLanes) &&
             p->scales.Resize(p->groups * kLanes) &&
             p->first_step.Resize(static_cast<size_t>(p->tiles) * p->groups +
                                  1)) {
    status = PackUnits<WindowsPart>(layer, p);
  }
  if (status != kTfPofOk) {
    FreeWindows(p);
    return status;
  }
  *packed = p;
  return kTfPofOk;
}

void FreeWindows(void* packed) {
  auto* windows = static_cast<Windows*>(packed);
  windows->lane_bytes.Free();
  windows->bias.Free();
  windows->scales.Free();
  windows->first_step.Free();
  windows->step_windows.Free();
  windows->steps.Free();
  free(windows);
}

size_t WindowsBytes(const void* packed) {
  const auto& p = *static_cast<const Windows*>(packed);
  return p.lane_bytes.bytes() + p.bias.bytes() + p.scales.bytes() +
         p.first_step.bytes() + p.step_windows.bytes() + p.steps.bytes();
}

}  // namespace tf_pof
