#include "windows.h"

#include "unit_rows.h"
#include "window_cover.h"

namespace tf_pof {
namespace {

// Where an input of a tile is in the second copy.
int SecondWindow(int window, int input_in_window, int windows) {
  const int lane = input_in_window / 4;
  return ((window - lane) % windows + windows) % windows;
}

// Which outputs of a unit share a group: in each tile a group needs at least
// the steps of its fullest output, so outputs are brought together that are
// alike.
class Order {
 public:
  Order(const UnitRows& rows, const Windows& packed)
      : rows_(rows), tiles_(packed.tiles), windows_(packed.windows) {}

  // Fills `order` with outputs by lane.
  bool Find(int32_t order[kUnit]) {
    const int count = rows_.end - rows_.first;
    const bool stored = counts_.Resize(static_cast<size_t>(count) * tiles_) &&
                        starts_.Resize(rows_.layer->inputs + 2);
    if (stored) {
      CountNonzeros();
      Sort(order);
      if (tiles_ > 1) Swap(count, order);
    }
    counts_.Free();
    starts_.Free();
    return stored;
  }

 private:
  void CountNonzeros() {
    for (int n = rows_.first; n < rows_.end; ++n) {
      for (int word = 0; word < rows_.words; ++word) {
        counts(n)[word / windows_] += CountOnes(rows_.mask(n)[word]);
      }
    }
  }

  int32_t* counts(int n) {
    return counts_.data + static_cast<size_t>(n - rows_.first) * tiles_;
  }

  int Total(int n) {
    int total = 0;
    for (int tile = 0; tile < tiles_; ++tile) total += counts(n)[tile];
    return total;
  }

  // By all nonzeros, most first; equal ones keep their order.
  void Sort(int32_t* order) {
    const int inputs = rows_.layer->inputs;
    for (int n = rows_.first; n < rows_.end; ++n) {
      ++starts_.data[inputs - Total(n) + 1];
    }
    for (int i = 1; i <= inputs + 1; ++i) {
      starts_.data[i] += starts_.data[i - 1];
    }
    for (int n = rows_.first; n < rows_.end; ++n) {
      order[starts_.data[inputs - Total(n)]++] = n;
    }
  }

  // The fullest output's nonzeros, over all tiles.
  int Cost(const int32_t* group) {
    int cost = 0;
    for (int tile = 0; tile < tiles_; ++tile) {
      int most = 0;
      for (int i = 0; i < kLanes; ++i) {
        most = Max(most, counts(group[i])[tile]);
      }
      cost += most;
    }
    return cost;
  }

  // Exchanges outputs of two whole groups as long as that helps.
  void Swap(int count, int32_t* order) {
    const uint32_t groups = count / kLanes;
    if (groups < 2) return;
    uint32_t random = 1;
    auto next = [&random](uint32_t below) {
      random = random * 1664525u + 1013904223u;
      return static_cast<uint32_t>(static_cast<uint64_t>(random) * below >> 32);
    };
    for (int i = 0; i < kSwaps; ++i) {
      const uint32_t one = next(groups), other = next(groups);
      if (one == other) continue;
      int32_t* a = order + one * kLanes;
      int32_t* b = order + other * kLanes;
      const int before = Cost(a) + Cost(b);
      const uint32_t from = next(kLanes), to = next(kLanes);
      const int32_t moved = a[from];
      a[from] = b[to];
      b[to] = moved;
      if (Cost(a) + Cost(b) <= before) continue;
      b[to] = a[from];
      a[from] = moved;
    }
  }

  // In 256 outputs more bring less than 1 % of the steps.
  static constexpr int kSwaps = 20000;
  const UnitRows& rows_;
  const int tiles_;
  const int windows_;
  Buffer<int32_t> counts_ = {};   // [outputs of the unit, tiles]
  Buffer<uint32_t> starts_ = {};  // of the sort
};

constexpr int kGroups = kUnit / kLanes;

// The steps of a unit, by tiles, then groups.
struct WindowsPart {
  Buffer<uint16_t> windows;
  Buffer<WindowStep> steps;
  Buffer<size_t> starts;  // of each group, and the end

  bool Pack(const UnitRows& rows, Windows* packed) {
    int32_t order[kUnit];
    if (!Order(rows, *packed).Find(order)) return false;
    FillLanes(rows, order, packed);
    const int count = rows.end - rows.first;
    for (int tile = 0; tile < packed->tiles; ++tile) {
      for (int lane = 0; lane < count; lane += kLanes) {
        if (!starts.Append(steps.size) ||
            !PackGroup(rows, *packed, tile, order + lane,
                       Min(kLanes, count - lane))) {
          return false;
        }
      }
    }
    return starts.Append(steps.size);
  }

  static void FillLanes(const UnitRows& rows, const int32_t order[kUnit],
                        Windows* packed) {
    for (int i = 0; i < rows.end - rows.first; ++i) {
      const int n = order[i];
      packed->bias.data[rows.first + i] = rows.CorrectedBias(n, 128);
      packed->scales.data[rows.first + i] = rows.layer->scales[n];
      packed->lane_bytes.data[n] = LaneByte(i / kLanes, i % kLanes);
    }
  }

  bool PackGroup(const UnitRows& rows, const Windows& p, int tile,
                 const int32_t* outputs, int lanes) {
    const int first = tile * p.windows;
    const int used = Min(p.windows, rows.words - first);
    GroupCover cover;
    cover.Clear(p.windows, lanes);
    for (int lane = 0; lane < lanes; ++lane) {
      for (int a = 0; a < used; ++a) {
        for (uint64_t bits = rows.mask(outputs[lane])[first + a]; bits != 0;
             bits &= bits - 1) {
          const int pick = __builtin_ctzll(bits);
          cover.Add(lane, a, SecondWindow(a, pick, p.windows));
        }
      }
    }
    cover.Solve();

    size_t first_step[kNodes];
    size_t end = steps.size;
    for (int node = 0; node < kNodes; ++node) {
      first_step[node] = end;
      end += cover.steps[node];
    }
    if (!windows.Resize(end) || !steps.Resize(end)) return false;
    for (int node = 0; node < kNodes; ++node) {
      const int window =
          node < kMaxWindows ? node : node - kMaxWindows + p.windows;
      for (int i = 0; i < cover.steps[node]; ++i) {
        windows.data[first_step[node] + i] = static_cast<uint16_t>(window);
      }
    }
    for (int lane = 0; lane < lanes; ++lane) {
      const int n = outputs[lane];
      EmitLane(cover.lane[lane], lane, rows.mask(n) + first,
               rows.row(n) + first * kWindow, p.windows, used, first_step);
    }
    return true;
  }

  // Writes a lane's nonzeros to the places that were chosen for them.
  void EmitLane(const LaneCover& cover, int lane, const uint64_t* masks,
                const int8_t* weights, int count, int used,
                const size_t first_step[kNodes]) {
    uint8_t left[kMaxWindows][kMaxWindows];
    memcpy(left, cover.placed[0], sizeof(left));
    int taken[kNodes] = {};
    for (int a = 0; a < used; ++a) {
      for (uint64_t bits = masks[a]; bits != 0; bits &= bits - 1) {
        const int pick = __builtin_ctzll(bits);
        const int b = SecondWindow(a, pick, count);
        int node = kMaxWindows + b;
        if (left[a][b] > 0) {
          --left[a][b];
          node = a;
        }
        WindowStep& step = steps.data[first_step[node] + taken[node] / kPicks];
        const int at = lane * kPicks + taken[node] % kPicks;
        step.picks[at] = static_cast<uint8_t>(pick);
        step.weights[at] = weights[a * kWindow + pick];
        ++taken[node];
      }
    }
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
  const int windows = CeilDiv(layer.inputs, kWindow);
  p->tiles = CeilDiv(windows, kMaxWindows);
  p->windows = CeilDiv(windows, p->tiles);
  TfPofStatus status = kTfPofOutOfMemory;
  if (p->lane_bytes.Resize(CeilDiv(layer.outputs, 64) * 64) &&
      p->bias.Resize(p->groups * kLanes) &&
      p->scales.Resize(p->groups * kLanes) &&
      p->first_step.Resize(static_cast<size_t>(p->tiles) * p->groups + 1)) {
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
