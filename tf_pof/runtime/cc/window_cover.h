// Choosing windows for a group of outputs; see windows.h.
#ifndef TF_POF_RUNTIME_CC_WINDOW_COVER_H_
#define TF_POF_RUNTIME_CC_WINDOW_COVER_H_

#include "windows.h"

namespace tf_pof {

inline constexpr int kNodes = 2 * kMaxWindows;

// The nonzeros of one output in one tile. A cell (a, b) holds those in window
// a of the first copy and window b of the second, so each may be placed at
// node a or at node kMaxWindows + b. A node takes 4 for each step of the group
// in its window.
struct LaneCover {
  // [a][b]: nonzeros not placed yet, placed at a, and placed at b.
  uint8_t open[kMaxWindows][kMaxWindows];
  uint8_t placed[2][kMaxWindows][kMaxWindows];
  uint8_t load[kNodes];     // placed at a node
  uint8_t open_at[kNodes];  // not placed that could be
  // Bit j of moves[i]: a nonzero placed at i could be placed at j instead.
  uint32_t moves[kNodes];
  int open_total;
};

struct GroupCover {
  int windows;
  int lanes;
  int steps[kNodes];  // the result: steps in each window
  LaneCover lane[kLanes];

  // Fills `steps`, and places all nonzeros that Add was told.
  void Solve();
  void Clear(int windows, int lanes);
  void Add(int lane, int a, int b);

 private:
  void AddStep(int node);
  void PlaceDirectly(LaneCover* lane, int node);
  bool Augment(LaneCover* lane);
  int BestNode(bool moving) const;
  int Open() const;
  bool RemoveStep(int node);
  void RemoveSteps();
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_COVER_H_
