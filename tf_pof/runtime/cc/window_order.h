// Which outputs of a unit share a group of the windows kernel; see windows.h.
#ifndef TF_POF_RUNTIME_CC_WINDOW_ORDER_H_
#define TF_POF_RUNTIME_CC_WINDOW_ORDER_H_

#include "unit_rows.h"
#include "windows.h"

namespace tf_pof {

// In each tile a group needs at least the steps of its fullest output, so
// outputs are brought together that are alike. Its owner calls Free() once.
class WindowOrder {
 public:
  WindowOrder(const UnitRows& rows, const WindowTiles& tiles);

  int32_t outputs[kUnit];  // by lane

  // By all nonzeros. False, as below, when memory runs out.
  bool Sort();
  // Then by those of each tile: 1 to 5 % fewer steps, if there are tiles, in
  // a tenth of packing's time.
  bool Swap();
  void Free();

  // After Sort.
  int nonzeros(int output) const;
  // That the fullest output of a group needs, in all tiles.
  int LeastSteps(int group) const;

 private:
  // The two largest of a group's counts in a tile.
  struct Largest {
    int32_t first;
    int32_t second;
  };

  int32_t* counts(int output) const {
    return counts_.data + static_cast<size_t>(output - rows_.first) * tiles_;
  }
  Largest FindLargest(const int32_t* group, int tile) const;
  int Change(const Largest* most, const int32_t* leaving,
             const int32_t* coming) const;

  const UnitRows& rows_;
  const int tiles_;
  const int windows_;
  Buffer<int32_t> counts_ = {};   // [outputs of the unit, tiles]
  Buffer<uint32_t> starts_ = {};  // of the sort
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_ORDER_H_
