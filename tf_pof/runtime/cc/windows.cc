#include "windows.h"

#include "unit_rows.h"
#include "window_cover.h"

namespace tf_pof {
namespace {

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
    bool stored = counts_.Resize(static_cast<size_t>(count) * tiles_) &&
                  starts_.Resize(rows_.layer->inputs + 2);
    if (stored) {
      CountNonzeros();
      Sort(order);
      if (tiles_ > 1) stored = Swap(count, order);
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

  // The two largest of a group's counts in a tile.
  struct Largest {
    int32_t first;
    int32_t second;
  };

  Largest FindLargest(const int32_t* group, int tile) {
    Largest most = {0, 0};
    for (int i = 0; i < kLanes; ++i) {
      const int32_t count = counts(group[i])[tile];
      most.second = Max(most.second, Min(most.first, count));
      most.first = Max(most.first, count);
    }
    return most;
  }

  // What the fullest output's nonzeros, over all tiles, would change by if one
  // output took another's place in a group.
  int Change(const Largest* most, const int32_t* leaving,
             const int32_t* coming) const {
    int change = 0;
    for (int tile = 0; tile < tiles_; ++tile) {
      const int32_t first = most[tile].first;
      const int32_t rest = leaving[tile] == first ? most[tile].second : first;
      change += Max(rest, coming[tile]) - first;
    }
    return change;
  }

  // Exchanges outputs of two whole groups as long as that helps.
  bool Swap(int count, int32_t* order) {
    const uint32_t groups = count / kLanes;
    if (groups < 2) return true;
    Buffer<Largest> most = {};
    if (!most.Resize(static_cast<size_t>(groups) * tiles_)) return false;
    auto update = [&](uint32_t group) {
      for (int tile = 0; tile < tiles_; ++tile) {
        most.data[group * tiles_ + tile] =
            FindLargest(order + group * kLanes, tile);
      }
    };
    for (uint32_t group = 0; group < groups; ++group) update(group);
    uint32_t random = 1;
    auto next = [&random](uint32_t below) {
      random = random * 1664525u + 1013904223u;
      return static_cast<uint32_t>(static_cast<uint64_t>(random) * below >> 32);
    };
    for (int i = 0; i < kSwaps; ++i) {
      const uint32_t a = next(groups), b = next(groups);
      if (a == b) continue;
      int32_t* from = order + a * kLanes + next(kLanes);
      int32_t* to = order + b * kLanes + next(kLanes);
      const int32_t* one = counts(*from);
      const int32_t* other = counts(*to);
      if (Change(most.data + a * tiles_, one, other) +
              Change(most.data + b * tiles_, other, one) >
          0) {
        continue;
      }
      const int32_t moved = *from;
      *from = *to;
      *to = moved;
      update(a);
      update(b);
    }
    most.Free();
    return true;
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

// Writes which bits are set, each plus `first`, and as many as kAtOnce more
// than there are: most often without a branch that could be foreseen wrongly.
constexpr int kAtOnce = 12;
int ListOnes(uint64_t bits, int first, uint16_t* to) {
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

// The steps of a unit, by tiles, then groups.
struct WindowsPart {
  Buffer<uint16_t> windows;
  Buffer<WindowStep> steps;
  Buffer<size_t> starts;  // of each group, and the end

  bool Pack(const UnitRows& rows, Windows* packed) {
    int32_t order[kUnit];
    if (!Order(rows, *packed).Find(order)) return false;
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

  static void FillLanes(const UnitRows& rows, const int32_t order[kUnit],
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
    int most = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      most = Max(most, inputs.count[lane]);
    }
    GroupCover cover;
    cover.Begin(tile_windows, lanes, most);
    cover.Add(inputs.of, inputs.count, second.of);
    cover.Solve();

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
  const int windows = CeilDiv(layer.inputs, kWindow);
  p->tiles = windows <= kMaxWindows ? 1 : CeilDiv(windows, kTileWindows);
  p->windows = CeilDiv(windows, p->tiles);
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
