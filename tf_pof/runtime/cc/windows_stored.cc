// The arrays of the "windows" kernel in files. Picks are six bits of a byte
// and lane bytes lead to one of 256, whatever they are.
#include "stored.h"
#include "windows.h"

namespace tf_pof {

void ListWindows(const void* packed, StoredArrays* arrays) {
  const auto& p = *static_cast<const Windows*>(packed);
  arrays->Add(p.lane_bytes);
  arrays->Add(p.bias);
  arrays->Add(p.scales);
  arrays->Add(p.first_step);
  arrays->Add(p.step_windows);
  arrays->Add(p.steps);
}

bool TakeWindows(const StoredArrays& arrays, Windows* p) {
  const size_t lanes = static_cast<size_t>(p->groups) * kLanes;
  if (!arrays.Take(0, CeilDiv(p->outputs, 64) * 64, &p->lane_bytes) ||
      !arrays.Take(1, lanes, &p->bias) || !arrays.Take(2, lanes, &p->scales) ||
      !arrays.Take(3, static_cast<size_t>(p->tiles) * p->groups + 1,
                   &p->first_step) ||
      !arrays.Take(4, &p->step_windows) ||
      !arrays.Take(5, p->step_windows.size, &p->steps) ||
      !ValidStarts(p->first_step, p->steps.size)) {
    return false;
  }
  int largest = 0;
  for (size_t i = 0; i < p->step_windows.size; ++i) {
    largest = Max<int>(largest, p->step_windows.data[i]);
  }
  return largest < 2 * p->windows;
}

}  // namespace tf_pof
