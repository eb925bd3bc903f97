// A nonzero is an edge between its two nodes, to be turned towards one of them
// so that no node gets more than its steps hold: bipartite b-matching, solved
// by augmenting paths for given steps. Steps are added one by one, each where
// most nonzeros of the 16 outputs find a place; then those that turn out not
// to be needed are taken away.
#include "window_cover.h"

namespace tf_pof {
namespace {

int LowestBit(uint32_t bits) { return __builtin_ctz(bits); }

void Put(LaneCover* lane, int node, int other) {
  ++lane->placed[node][other % kSide];
  lane->moves[node] |= 1u << other;
  lane->from[other] |= 1u << node;
}

void Take(LaneCover* lane, int node, int other) {
  if (--lane->placed[node][other % kSide] > 0) return;
  lane->moves[node] &= ~(1u << other);
  lane->from[other] &= ~(1u << node);
}

void Move(LaneCover* lane, int node, int to) {
  Take(lane, node, to);
  Put(lane, to, node);
}

// Changes a node's room.
void AddRoom(LaneCover* lane, int node, int change) {
  const int room = lane->room[node] + change;
  const uint32_t bit = 1u << node;
  lane->room[node] = static_cast<int8_t>(room);
  lane->roomy = (lane->roomy & ~bit) | (room > 0 ? bit : 0);
  lane->excess = (lane->excess & ~bit) | (room < 0 ? bit : 0);
}

// Searches breadth first from `start` along `edges` for a node of `goals`.
// next[i] leads back from there to the start.
int Search(const uint32_t edges[kNodes], int start, uint32_t goals,
           uint8_t next[kNodes]) {
  uint32_t reached = 1u << start;
  uint32_t frontier = reached;
  while (frontier != 0) {
    uint32_t all = 0;
    for (uint32_t bits = frontier; bits != 0; bits &= bits - 1) {
      const int i = LowestBit(bits);
      const uint32_t found = edges[i] & ~reached;
      if ((found & goals) != 0) {
        const int end = LowestBit(found & goals);
        next[end] = static_cast<uint8_t>(i);
        return end;
      }
      reached |= found;
      all |= found;
      for (uint32_t more = found; more != 0; more &= more - 1) {
        next[LowestBit(more)] = static_cast<uint8_t>(i);
      }
    }
    frontier = all;
  }
  return -1;
}

// Moves one nonzero's worth of load from a node to one with room.
bool Push(LaneCover* lane, int node) {
  uint8_t next[kNodes];
  const int end = Search(lane->moves, node, lane->roomy, next);
  if (end < 0) return false;
  for (int i = end; i != node; i = next[i]) Move(lane, next[i], i);
  AddRoom(lane, node, 1);
  AddRoom(lane, end, -1);
  return true;
}

// The same, to a node from one with too much.
bool Pull(LaneCover* lane, int node) {
  uint8_t next[kNodes];
  const int end = Search(lane->from, node, lane->excess, next);
  if (end < 0) return false;
  for (int i = end; i != node; i = next[i]) Move(lane, i, next[i]);
  AddRoom(lane, end, 1);
  AddRoom(lane, node, -1);
  return true;
}

// Values of all nodes, as vectors of 16.
typedef uint32_t Vector __attribute__((vector_size(64)));
union NodeValues {
  Vector half[2];
  uint32_t of[kNodes];
};

// Adds what one more step at each node could take off nodes with too much, at
// most 4: from those from which moves lead there. Paths that cross are counted
// twice, so this is an upper bound.
void AddGains(const LaneCover& lane, NodeValues* gains) {
  // Bit j of reach[i]: moves lead from i to j. Warshall's algorithm.
  NodeValues reach;
  for (int i = 0; i < kNodes; ++i) reach.of[i] = lane.moves[i] | 1u << i;
  for (int k = 0; k < kNodes; ++k) {
    const uint32_t onwards = reach.of[k];
    for (Vector& v : reach.half) v |= (0 - (v >> k & 1)) & onwards;
  }
  NodeValues found = {};
  for (uint32_t bits = lane.excess; bits != 0; bits &= bits - 1) {
    const int i = LowestBit(bits);
    const uint32_t excess = -lane.room[i];
    for (int j = 0; j < kNodes; ++j) {
      found.of[j] += (reach.of[i] >> j & 1) * excess;
    }
  }
  for (int j = 0; j < kNodes; ++j) {
    gains->of[j] += Min<uint32_t>(found.of[j], kPicks);
  }
}

}  // namespace

void GroupCover::Begin(int new_windows, int new_lanes, int most) {
  memset(this, 0, sizeof(*this));
  windows = new_windows;
  lanes = new_lanes;
  // At least these many are needed. To begin with a few more, and to take them
  // away again, is faster than the searches that fail without them.
  constexpr int kMore = 2;
  least = CeilDiv(most, kPicks);
  total = least + kMore;
  // One in each window before two in any.
  for (int i = 0; i < total; ++i) {
    const int at = i % (2 * windows);
    ++steps[at < windows ? at : at - windows + kSide];
  }
  for (int i = 0; i < lanes; ++i) {
    for (int node = 0; node < kNodes; ++node) {
      lane[i].room[node] = static_cast<int8_t>(kPicks * steps[node]);
    }
  }
}

// Places a nonzero where there is more room.
void GroupCover::Add(int i, int a, int b) {
  LaneCover* cover = &lane[i];
  b += kSide;
  const int node = cover->room[a] >= cover->room[b] ? a : b;
  --cover->room[node];
  Put(cover, node, a + b - node);
}

void GroupCover::AddStep(int node) {
  ++steps[node];
  ++total;
  for (int i = 0; i < lanes; ++i) {
    LaneCover* cover = &lane[i];
    AddRoom(cover, node, kPicks);
    while (cover->excess != 0 && cover->room[node] > 0) {
      if (!Pull(cover, node)) break;
    }
  }
}

int GroupCover::BestNode() const {
  NodeValues gains = {};
  for (int i = 0; i < lanes; ++i) {
    if (lane[i].excess != 0) AddGains(lane[i], &gains);
  }
  int best = 0;
  for (int i = 1; i < kNodes; ++i) {
    // Fewer steps there already: more rows will find the window useful.
    if (gains.of[i] > gains.of[best] ||
        (gains.of[i] == gains.of[best] && steps[i] < steps[best])) {
      best = i;
    }
  }
  return best;
}

// Takes a step from a node; false if what it held finds no other place.
bool GroupCover::RemoveStep(int node) {
  LaneCover before[kLanes];
  --steps[node];
  for (int i = 0; i < lanes; ++i) {
    before[i] = lane[i];
    AddRoom(&lane[i], node, -kPicks);
    while (lane[i].excess != 0) {
      if (Push(&lane[i], node)) continue;
      memcpy(lane, before, (i + 1) * sizeof(LaneCover));
      ++steps[node];
      return false;
    }
  }
  return true;
}

void GroupCover::Solve() {
  for (int i = 0; i < lanes; ++i) {
    LaneCover* cover = &lane[i];
    for (int node = 0; node < kNodes; ++node) AddRoom(cover, node, 0);
    for (uint32_t bits = cover->excess; bits != 0; bits &= bits - 1) {
      const int node = LowestBit(bits);
      while ((cover->excess >> node & 1) != 0 && Push(cover, node)) {
      }
    }
  }
  for (;;) {
    uint32_t excess = 0;
    for (int i = 0; i < lanes; ++i) excess |= lane[i].excess;
    if (excess == 0) break;
    AddStep(BestNode());
  }
  for (int node = 0; node < kNodes; ++node) {
    while (total > least && steps[node] > 0 && RemoveStep(node)) --total;
  }
}

}  // namespace tf_pof
