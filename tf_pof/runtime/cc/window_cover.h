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
  uint32_t moves[kNodes];  // bit j of i: a nonzero placed at i could be at j
  uint32_t roomy;          // nodes with room > 0
  uint32_t excess;         // nodes with room < 0
};

struct GroupCover {
  int windows;
  int lanes;
  int least;  // steps that the fullest lane needs
  int total;  // sum of steps
  // The result: steps in each window, and where the nonzeros are placed.
  int steps[kNodes];
  LaneCover lane[kLanes];

  // For the nonzeros of all lanes, by their inputs in the tile: `second` has
  // the window in the second copy of each four inputs.
  void Cover(int windows, int lanes, const uint16_t* const inputs[kLanes],
             const int count[kLanes], const uint8_t* second);

 private:
  // `most` is the number of nonzeros of the fullest lane.
  void Begin(int windows, int lanes, int most);
  void Add(const uint16_t* const inputs[kLanes], const int count[kLanes],
           const uint8_t* second);
  void Solve();
  void AddStep(int node);
  int BestNode() const;
  bool RemoveStep(int node);

  int order_[kLanes];  // of trying lanes: those that failed last come first
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_COVER_H_
