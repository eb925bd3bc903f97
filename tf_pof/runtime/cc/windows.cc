#include "windows.h"

#include "window_cover.h"

namespace tf_pof {
namespace {

// Where an input of a tile is in the second copy.
int SecondWindow(int window, int input_in_window, int windows) {
  const int lane = input_in_window / 4;
  return ((window - lane) % windows + windows) % windows;
}

// Which outputs share a group: in each tile a group needs at least the steps
// of its fullest output, so outputs are brought together that are alike.
class Order {
 public:
  Order(const Layer& layer, const Windows& packed)
      : layer_(layer),
        tiles_(packed.tiles),
        tile_inputs_(packed.windows * kWindow) {}

  // Fills `order` with outputs by lane, kept inside units.
  bool Find(Buffer<int32_t>* order) {
    bool stored =
        order->Resize(layer_.outputs) &&
        counts_.Resize(static_cast<size_t>(layer_.outputs) * tiles_) &&
        starts_.Resize(layer_.inputs + 2);
    if (stored) {
      CountNonzeros();
      for (int first = 0; first < layer_.outputs; first += kUnit) {
        const int count = Min(kUnit, layer_.outputs - first);
        Sort(first, count, order->data + first);
        if (tiles_ > 1) Swap(count, order->data + first);
      }
    }
    counts_.Free();
    starts_.Free();
    return stored;
  }

 private:
  void CountNonzeros() {
    for (int n = 0; n < layer_.outputs; ++n) {
      const int8_t* w = layer_.row(n);
      for (int k = 0; k < layer_.inputs; ++k) {
        counts(n)[k / tile_inputs_] += w[k] != 0;
      }
    }
  }

  int32_t* counts(int n) {
    return counts_.data + static_cast<size_t>(n) * tiles_;
  }

  int Total(int n) {
    int total = 0;
    for (int tile = 0; tile < tiles_; ++tile) total += counts(n)[tile];
    return total;
  }

  // By all nonzeros, most first; equal ones keep their order.
  void Sort(int first, int count, int32_t* order) {
    memset(starts_.data, 0, starts_.bytes());
    for (int n = first; n < first + count; ++n) {
      ++starts_.data[layer_.inputs - Total(n) + 1];
    }
    for (int i = 1; i <= layer_.inputs + 1; ++i) {
      starts_.data[i] += starts_.data[i - 1];
    }
    for (int n = first; n < first + count; ++n) {
      order[starts_.data[layer_.inputs - Total(n)]++] = n;
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
  const Layer& layer_;
  const int tiles_;
  const int tile_inputs_;
  Buffer<int32_t> counts_ = {};   // [outputs, tiles]
  Buffer<uint32_t> starts_ = {};  // of the sort
};

// The steps of one group in one tile.
struct PackedGroup {
  Buffer<uint16_t> windows;
  Buffer<WindowStep> steps;
};

struct Packer {
  const Layer* layer;
  Windows* packed;
  const int32_t* order;  // outputs by lane
  PackedGroup* groups;   // [tiles * groups]
  int32_t failed;        // atomic: out of memory
};

// Writes a lane's nonzeros to the places that were chosen for them.
void EmitLane(const Packer& packer, const GroupCover& cover, int lane,
              int output, int tile, const int first_step[kNodes],
              WindowStep* steps) {
  const Windows& p = *packer.packed;
  const int begin = tile * p.windows * kWindow;
  const int end = Min(begin + p.windows * kWindow, p.inputs);
  const int8_t* w = packer.layer->row(output);
  uint8_t left[kMaxWindows][kMaxWindows];
  memcpy(left, cover.lane[lane].placed[0], sizeof(left));
  int used[kNodes] = {};
  for (int k = begin; k < end; ++k) {
    if (w[k] == 0) continue;
    const int a = (k - begin) / kWindow;
    const int pick = (k - begin) % kWindow;
    const int b = SecondWindow(a, pick, p.windows);
    int node = kMaxWindows + b;
    if (left[a][b] > 0) {
      --left[a][b];
      node = a;
    }
    WindowStep& step = steps[first_step[node] + used[node] / kPicks];
    const int at = lane * kPicks + used[node] % kPicks;
    step.picks[at] = static_cast<uint8_t>(pick);
    step.weights[at] = w[k];
    ++used[node];
  }
}

void PackGroup(void* context, int32_t index, int32_t) {
  auto& packer = *static_cast<Packer*>(context);
  const Windows& p = *packer.packed;
  PackedGroup& result = packer.groups[index];
  const int tile = index / p.groups;
  const int first = index % p.groups * kLanes;
  const int lanes = Min(kLanes, p.outputs - first);
  const int begin = tile * p.windows * kWindow;
  const int end = Min(begin + p.windows * kWindow, p.inputs);

  GroupCover cover;
  cover.Clear(p.windows, lanes);
  for (int lane = 0; lane < lanes; ++lane) {
    const int8_t* w = packer.layer->row(packer.order[first + lane]);
    for (int k = begin; k < end; ++k) {
      if (w[k] == 0) continue;
      const int a = (k - begin) / kWindow;
      cover.Add(lane, a, SecondWindow(a, (k - begin) % kWindow, p.windows));
    }
  }
  cover.Solve();

  int first_step[kNodes];
  int count = 0;
  for (int node = 0; node < kNodes; ++node) {
    first_step[node] = count;
    count += cover.steps[node];
  }
  if (!result.windows.Resize(count) || !result.steps.Resize(count)) {
    __atomic_store_n(&packer.failed, 1, __ATOMIC_RELAXED);
    return;
  }
  for (int node = 0; node < kNodes; ++node) {
    const int window =
        node < kMaxWindows ? node : node - kMaxWindows + p.windows;
    for (int i = 0; i < cover.steps[node]; ++i) {
      result.windows.data[first_step[node] + i] = static_cast<uint16_t>(window);
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    EmitLane(packer, cover, lane, packer.order[first + lane], tile, first_step,
             result.steps.data);
  }
}

bool FillLanes(const Layer& layer, const int32_t* order, Windows* packed) {
  if (!packed->lane_bytes.Resize(CeilDiv(layer.outputs, 64) * 64) ||
      !packed->bias.Resize(packed->groups * kLanes) ||
      !packed->scales.Resize(packed->groups * kLanes)) {
    return false;
  }
  for (int i = 0; i < layer.outputs; ++i) {
    const int n = order[i];
    packed->bias.data[i] = layer.CorrectedBias(n, 128);
    packed->scales.data[i] = layer.scales[n];
    packed->lane_bytes.data[n] = LaneByte(i % kUnit / kLanes, i % kLanes);
  }
  return true;
}

// Joins the groups' steps, freeing each.
bool Join(PackedGroup* groups, int count, Windows* packed) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += groups[i].steps.size;
  bool stored = packed->steps.Resize(total) &&
                packed->step_windows.Resize(total) &&
                packed->first_step.Resize(count + 1);
  size_t at = 0;
  for (int i = 0; i < count && stored; ++i) {
    packed->first_step.data[i] = static_cast<uint32_t>(at);
    if (groups[i].steps.size == 0) continue;
    memcpy(packed->steps.data + at, groups[i].steps.data,
           groups[i].steps.bytes());
    memcpy(packed->step_windows.data + at, groups[i].windows.data,
           groups[i].windows.bytes());
    at += groups[i].steps.size;
  }
  if (stored) packed->first_step.data[count] = static_cast<uint32_t>(at);
  return stored;
}

bool Pack(const Layer& layer, Windows* packed) {
  Buffer<int32_t> order = {};
  Buffer<PackedGroup> groups = {};
  const int count = packed->tiles * packed->groups;
  bool stored = Order(layer, *packed).Find(&order) && groups.Resize(count) &&
                FillLanes(layer, order.data, packed);
  if (stored) {
    Packer packer = {&layer, packed, order.data, groups.data, 0};
    TfPofThreadPoolRun(layer.pool, count, PackGroup, &packer);
    stored = packer.failed == 0 && Join(groups.data, count, packed);
  }
  for (size_t i = 0; i < groups.size; ++i) {
    groups.data[i].windows.Free();
    groups.data[i].steps.Free();
  }
  groups.Free();
  order.Free();
  return stored;
}

}  // namespace

void* PackWindows(const Layer& layer) {
  auto* packed = static_cast<Windows*>(calloc(1, sizeof(Windows)));
  if (packed == nullptr) return nullptr;
  packed->inputs = layer.inputs;
  packed->outputs = layer.outputs;
  packed->groups = CeilDiv(layer.outputs, kLanes);
  const int windows = CeilDiv(layer.inputs, kWindow);
  packed->tiles = CeilDiv(windows, kMaxWindows);
  packed->windows = CeilDiv(windows, packed->tiles);
  if (!Pack(layer, packed)) {
    FreeWindows(packed);
    return nullptr;
  }
  return packed;
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
