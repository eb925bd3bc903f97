// A nonzero is an edge between its two nodes, to be turned towards one of them
// so that no node gets more than its steps hold: bipartite b-matching, solved
// by augmenting paths for given steps. Steps are added one by one, each where
// most nonzeros of the 16 outputs find a place; then those that turn out not
// to be needed are taken away.
#include "window_cover.h"

#include <immintrin.h>

namespace tf_pof {
namespace {

int LowestBit(uint32_t bits) { return __builtin_ctz(bits); }

void Put(LaneCover* lane, int node, int other) {
  ++lane->placed[node][other % kSide];
  lane->moves[node] |= 1u << other;
}

void Take(LaneCover* lane, int node, int other) {
  if (--lane->placed[node][other % kSide] == 0) {
    lane->moves[node] &= ~(1u << other);
  }
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

// Places a nonzero where there is more room.
inline void Place(LaneCover* lane, int input, const uint8_t* second) {
  const int a = input / kWindow;
  const int b = second[input / kPicks] + kSide;
  // Nobody could foresee a branch here.
  const int turn = (a ^ b) & -(lane->room[a] < lane->room[b]);
  --lane->room[a ^ turn];
  ++lane->placed[a ^ turn][(b ^ turn) % kSide];
}

// Fills in what follows from `placed` and `room`.
void FindMoves(LaneCover* lane) {
  for (int node = 0; node < kNodes; ++node) {
    const __m128i placed =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(lane->placed[node]));
    const uint32_t others = _mm_test_epi8_mask(placed, placed);
    lane->moves[node] = node < kSide ? others << kSide : others;
    AddRoom(lane, node, 0);
  }
}

// The nodes from which one move leads to any of `to`.
uint32_t Before(const LaneCover& lane, uint32_t to) {
  const __m512i goals = _mm512_set1_epi32(static_cast<int32_t>(to));
  const uint32_t low =
      _mm512_test_epi32_mask(_mm512_loadu_si512(lane.moves), goals);
  const uint32_t high =
      _mm512_test_epi32_mask(_mm512_loadu_si512(lane.moves + kSide), goals);
  return low | high << kSide;
}

// Takes one nonzero's worth of load off a node of `from` by the least number of
// moves that bring it to one of `to`; false if none do.
bool Shift(LaneCover* lane, uint32_t from, uint32_t to) {
  // Backwards: levels[i] are the nodes from which i moves lead there.
  uint32_t levels[kNodes];
  uint32_t reached = to;
  levels[0] = to;
  int last = 0;
  while ((levels[last] & from) == 0) {
    const uint32_t next = Before(*lane, levels[last]) & ~reached;
    if (next == 0) return false;
    reached |= next;
    levels[++last] = next;
  }
  int node = LowestBit(levels[last] & from);
  AddRoom(lane, node, 1);
  for (int i = last - 1; i >= 0; --i) {
    const int next = LowestBit(lane->moves[node] & levels[i]);
    Move(lane, node, next);
    node = next;
  }
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

void GroupCover::Add(const uint16_t* const inputs[kLanes],
                     const int count[kLanes], const uint8_t* second) {
  // Each nonzero waits for the one before: four lanes take turns.
  constexpr int kTurns = 4;
  for (int i = 0; i < lanes; i += kTurns) {
    const int end = Min(i + kTurns, lanes);
    int common = count[i];
    for (int j = i; j < end; ++j) common = Min(common, count[j]);
    if (end - i < kTurns) common = 0;
    for (int at = 0; at < common; ++at) {
#pragma GCC unroll 4
      for (int j = 0; j < kTurns; ++j) {
        Place(&lane[i + j], inputs[i + j][at], second);
      }
    }
    for (int j = i; j < end; ++j) {
      for (int at = common; at < count[j]; ++at) {
        Place(&lane[j], inputs[j][at], second);
      }
      FindMoves(&lane[j]);
    }
  }
}

void GroupCover::AddStep(int node) {
  ++steps[node];
  ++total;
  for (int i = 0; i < lanes; ++i) {
    LaneCover* cover = &lane[i];
    AddRoom(cover, node, kPicks);
    while (cover->excess != 0 && cover->room[node] > 0 &&
           Shift(cover, cover->excess, 1u << node)) {
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
    LaneCover* cover = &lane[order_[i]];
    before[i] = *cover;
    AddRoom(cover, node, -kPicks);
    while (cover->excess != 0) {
      if (Shift(cover, cover->excess, cover->roomy)) continue;
      for (int j = 0; j <= i; ++j) lane[order_[j]] = before[j];
      const int failed = order_[i];
      memmove(order_ + 1, order_, i * sizeof(order_[0]));
      order_[0] = failed;
      ++steps[node];
      return false;
    }
  }
  return true;
}

void GroupCover::Solve() {
  for (int i = 0; i < lanes; ++i) {
    LaneCover* cover = &lane[i];
    order_[i] = i;
    for (uint32_t bits = cover->excess; bits != 0; bits &= bits - 1) {
      const uint32_t node = bits & -bits;
      while ((cover->excess & node) != 0 && Shift(cover, node, cover->roomy)) {
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

void GroupCover::Cover(int new_windows, int new_lanes,
                       const uint16_t* const inputs[kLanes],
                       const int count[kLanes], const uint8_t* second) {
  int most = 0;
  for (int i = 0; i < new_lanes; ++i) most = Max(most, count[i]);
  Begin(new_windows, new_lanes, most);
  Add(inputs, count, second);
  Solve();
}

}  // namespace tf_pof
