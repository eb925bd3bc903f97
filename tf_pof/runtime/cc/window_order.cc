#include "window_order.h"

namespace tf_pof {
namespace {

// In 256 outputs more bring less than 1 % of the steps.
constexpr int kSwaps = 20000;

}  // namespace

WindowOrder::WindowOrder(const UnitRows& rows, const WindowTiles& tiles)
    : rows_(rows), tiles_(tiles.count), windows_(tiles.windows) {}

int WindowOrder::nonzeros(int output) const {
  int total = 0;
  for (int tile = 0; tile < tiles_; ++tile) total += counts(output)[tile];
  return total;
}

// Most first; equal ones keep their order.
bool WindowOrder::Sort() {
  const int inputs = rows_.layer->inputs;
  if (!counts_.Resize(static_cast<size_t>(rows_.end - rows_.first) * tiles_) ||
      !starts_.Resize(inputs + 2)) {
    return false;
  }
  for (int n = rows_.first; n < rows_.end; ++n) {
    for (int word = 0; word < rows_.words; ++word) {
      counts(n)[word / windows_] += CountOnes(rows_.mask(n)[word]);
    }
    ++starts_.data[inputs - nonzeros(n) + 1];
  }
  for (int i = 1; i <= inputs + 1; ++i) {
    starts_.data[i] += starts_.data[i - 1];
  }
  for (int n = rows_.first; n < rows_.end; ++n) {
    outputs[starts_.data[inputs - nonzeros(n)]++] = n;
  }
  return true;
}

int WindowOrder::LeastSteps(int group) const {
  const int first = group * kLanes;
  const int last = Min(first + kLanes, rows_.end - rows_.first);
  int steps = 0;
  for (int tile = 0; tile < tiles_; ++tile) {
    int most = 0;
    for (int i = first; i < last; ++i) {
      most = Max(most, counts(outputs[i])[tile]);
    }
    steps += CeilDiv(most, kPicks);
  }
  return steps;
}

WindowOrder::Largest WindowOrder::FindLargest(const int32_t* group,
                                              int tile) const {
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
int WindowOrder::Change(const Largest* most, const int32_t* leaving,
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
bool WindowOrder::Swap() {
  const uint32_t groups = (rows_.end - rows_.first) / kLanes;
  if (groups < 2 || tiles_ < 2) return true;
  Buffer<Largest> most = {};
  if (!most.Resize(static_cast<size_t>(groups) * tiles_)) return false;
  auto update = [&](uint32_t group) {
    for (int tile = 0; tile < tiles_; ++tile) {
      most.data[group * tiles_ + tile] =
          FindLargest(outputs + group * kLanes, tile);
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
    int32_t* from = outputs + a * kLanes + next(kLanes);
    int32_t* to = outputs + b * kLanes + next(kLanes);
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

void WindowOrder::Free() {
  counts_.Free();
  starts_.Free();
}

}  // namespace tf_pof
