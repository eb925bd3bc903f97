// Choosing windows for a group of outputs; see windows.h.
#ifndef TF_POF_RUNTIME_CC_WINDOW_COVER_H_
#define TF_POF_RUNTIME_CC_WINDOW_COVER_H_

#include "windows.h"

namespace tf_pof {

// A node is a window of one of the copies: of the first those below kSide.
inline constexpr int kSide = 16;
inline constexpr int kNodes = 2 * kSide;

// The nonzeros of one output in one tile. One that is in window a of the first
// copy and in window b of the second may be placed at node a or kSide + b.
struct LaneCover {
  // [node][window in the other copy]: nonzeros placed at the node.
  uint8_t placed[kNodes][kSide];
  // What a node's steps hold, less what is placed there; negative if that is
  // too much.
  int8_t room[kNodes];
  // Bit j of moves[i], and bit i of from[j]: a nonzero that is placed at i
  // could be at j.
  uint32_t moves[kNodes];
  uint32_t from[kNodes];
  uint32_t roomy;   // nodes with room > 0
  uint32_t excess;  // nodes with room < 0
};

struct GroupCover {
  int windows;
  int lanes;
  int least;  // steps that the fullest lane needs
  int total;  // sum of steps
  // The result: steps in each window, and where the nonzeros are placed.
  int steps[kNodes];
  LaneCover lane[kLanes];

  // `most` is the number of nonzeros of the fullest lane.
  void Begin(int windows, int lanes, int most);
  void Add(int lane, int a, int b);
  void Solve();

 private:
  void AddStep(int node);
  int BestNode() const;
  bool RemoveStep(int node);
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_COVER_H_
