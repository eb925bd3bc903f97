// A nonzero is an edge between its two nodes, to be turned towards one of them
// so that no node gets more than its steps hold: bipartite b-matching, solved
// by augmenting paths for given steps. Steps are added one by one, each where
// most nonzeros of the 16 outputs find a place; then those that turn out not
// to be needed are taken away.
#include "window_cover.h"

namespace tf_pof {
namespace {

// Takes one nonzero of cell (a, b) into account at a node, or away from it.
void Put(LaneCover* lane, int side, int a, int b) {
  const int node = side == 0 ? a : kMaxWindows + b;
  const int other = side == 0 ? kMaxWindows + b : a;
  ++lane->placed[side][a][b];
  ++lane->load[node];
  lane->moves[node] |= 1u << other;
}

void Take(LaneCover* lane, int side, int a, int b) {
  const int node = side == 0 ? a : kMaxWindows + b;
  const int other = side == 0 ? kMaxWindows + b : a;
  --lane->load[node];
  if (--lane->placed[side][a][b] == 0) lane->moves[node] &= ~(1u << other);
}

void Close(LaneCover* lane, int a, int b) {
  --lane->open[a][b];
  --lane->open_at[a];
  --lane->open_at[kMaxWindows + b];
  --lane->open_total;
}

// Moves one nonzero from its place at `from` to node `to`.
void Move(LaneCover* lane, int from, int to) {
  const int side = from < kMaxWindows ? 0 : 1;
  const int a = side == 0 ? from : to;
  const int b = (side == 0 ? to : from) - kMaxWindows;
  Take(lane, side, a, b);
  Put(lane, 1 - side, a, b);
}

int LowestBit(uint32_t bits) { return __builtin_ctz(bits); }

// The open nonzeros that one more step at each node could place, at most 4:
// those at nodes from which moves lead there. Paths that cross are counted
// twice, so this is an upper bound.
void AddGains(const LaneCover& lane, int gains[kNodes]) {
  uint32_t reach[kNodes];
  for (int i = 0; i < kNodes; ++i) reach[i] = lane.moves[i] | 1u << i;
  for (int k = 0; k < kNodes; ++k) {
    for (int i = 0; i < kNodes; ++i) {
      if (reach[i] >> k & 1) reach[i] |= reach[k];
    }
  }
  int found[kNodes] = {};
  for (int i = 0; i < kNodes; ++i) {
    if (lane.open_at[i] == 0) continue;
    for (uint32_t bits = reach[i]; bits != 0; bits &= bits - 1) {
      found[LowestBit(bits)] += lane.open_at[i];
    }
  }
  for (int i = 0; i < kNodes; ++i) gains[i] += Min(found[i], kPicks);
}

}  // namespace

void GroupCover::Clear(int new_windows, int new_lanes) {
  memset(this, 0, sizeof(*this));
  windows = new_windows;
  lanes = new_lanes;
}

void GroupCover::Add(int i, int a, int b) {
  ++lane[i].open[a][b];
  ++lane[i].open_at[a];
  ++lane[i].open_at[kMaxWindows + b];
  ++lane[i].open_total;
}

// Places open nonzeros at a node while it has room.
void GroupCover::PlaceDirectly(LaneCover* cover, int node) {
  for (int other = 0; other < windows && cover->open_at[node] > 0; ++other) {
    const int side = node < kMaxWindows ? 0 : 1;
    const int a = side == 0 ? node : other;
    const int b = side == 0 ? other : node - kMaxWindows;
    while (cover->open[a][b] > 0) {
      if (cover->load[node] == kPicks * steps[node]) return;
      Close(cover, a, b);
      Put(cover, side, a, b);
    }
  }
}

// Places one open nonzero by moving others; false if none can be.
bool GroupCover::Augment(LaneCover* cover) {
  uint32_t room = 0;
  for (int i = 0; i < kNodes; ++i) {
    room |= static_cast<uint32_t>(cover->load[i] < kPicks * steps[i]) << i;
  }
  if (room == 0) return false;
  // Breadth first from the nodes with room against the direction of moves;
  // next[i] is where node i passes a nonzero on to.
  int8_t next[kNodes];
  uint32_t reached = room;
  uint32_t frontier = room;
  for (int i = 0; i < kNodes; ++i) next[i] = -1;
  int start = -1;
  while (start < 0 && frontier != 0) {
    for (uint32_t bits = frontier; bits != 0; bits &= bits - 1) {
      if (cover->open_at[LowestBit(bits)] > 0) start = LowestBit(bits);
    }
    uint32_t found = 0;
    for (int i = 0; i < kNodes && start < 0; ++i) {
      const uint32_t onwards = cover->moves[i] & frontier;
      if ((reached >> i & 1) == 0 && onwards != 0) {
        next[i] = static_cast<int8_t>(LowestBit(onwards));
        found |= 1u << i;
      }
    }
    reached |= found;
    frontier = found;
  }
  if (start < 0) return false;
  // From the far end, so that each node has room when it is given one.
  int path[kNodes];
  int length = 0;
  for (int i = start; i >= 0; i = next[i]) path[length++] = i;
  for (int i = length - 1; i > 0; --i) Move(cover, path[i - 1], path[i]);
  for (int other = 0; other < windows; ++other) {
    const int side = start < kMaxWindows ? 0 : 1;
    const int a = side == 0 ? start : other;
    const int b = side == 0 ? other : start - kMaxWindows;
    if (cover->open[a][b] == 0) continue;
    Close(cover, a, b);
    Put(cover, side, a, b);
    return true;
  }
  return false;
}

void GroupCover::AddStep(int node) {
  ++steps[node];
  for (int i = 0; i < lanes; ++i) {
    if (lane[i].open_total == 0) continue;
    PlaceDirectly(&lane[i], node);
    while (lane[i].open_total > 0 && Augment(&lane[i])) {
    }
  }
}

int GroupCover::BestNode(bool moving) const {
  int gains[kNodes] = {};
  for (int i = 0; i < lanes; ++i) {
    if (lane[i].open_total == 0) continue;
    if (moving) {
      AddGains(lane[i], gains);
    } else {
      for (int j = 0; j < kNodes; ++j) {
        gains[j] += Min<int>(lane[i].open_at[j], kPicks);
      }
    }
  }
  int best = 0;
  for (int i = 1; i < kNodes; ++i) {
    // Fewer steps there already: more rows will find the window useful.
    if (gains[i] > gains[best] ||
        (gains[i] == gains[best] && steps[i] < steps[best])) {
      best = i;
    }
  }
  return best;
}

int GroupCover::Open() const {
  int open = 0;
  for (int i = 0; i < lanes; ++i) open += lane[i].open_total;
  return open;
}

// Takes a step from a node; false if what it held finds no other place.
bool GroupCover::RemoveStep(int node) {
  --steps[node];
  const int side = node < kMaxWindows ? 0 : 1;
  for (int i = 0; i < lanes; ++i) {
    LaneCover* cover = &lane[i];
    for (int other = 0; other < windows; ++other) {
      const int a = side == 0 ? node : other;
      const int b = side == 0 ? other : node - kMaxWindows;
      while (cover->load[node] > kPicks * steps[node] &&
             cover->placed[side][a][b] > 0) {
        Take(cover, side, a, b);
        Add(i, a, b);
      }
    }
    while (cover->open_total > 0) {
      if (!Augment(cover)) return false;
    }
  }
  return true;
}

void GroupCover::RemoveSteps() {
  GroupCover best = *this;
  for (int node = 0; node < kNodes; ++node) {
    while (steps[node] > 0 && RemoveStep(node)) best = *this;
    *this = best;
  }
}

void GroupCover::Solve() {
  int most = 0;
  for (int i = 0; i < lanes; ++i) most = Max(most, lane[i].open_total);
  // Each window is worth this many steps at least: nonzeros are spread.
  const int base =
      static_cast<int>(0.85 * CeilDiv(most, kPicks)) / (2 * windows);
  const int all = Open();
  for (int side = 0; side < 2 && base > 0; ++side) {
    for (int w = 0; w < windows; ++w) {
      const int node = side * kMaxWindows + w;
      steps[node] = base - 1;
      AddStep(node);
    }
  }
  for (int open = Open(); open > 0; open = Open()) {
    // What moving others would allow matters for the last ones only.
    AddStep(BestNode(open < 0.35 * all));
  }
  RemoveSteps();
}

}  // namespace tf_pof
