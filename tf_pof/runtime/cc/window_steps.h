// How many steps the windows kernel would take, measured without packing.
#ifndef TF_POF_RUNTIME_CC_WINDOW_STEPS_H_
#define TF_POF_RUNTIME_CC_WINDOW_STEPS_H_

#include "unit_rows.h"
#include "windows.h"

namespace tf_pof {

// Of a unit: the steps that the fullest output of each group needs, and of some
// groups how many more they take.
struct WindowSample {
  struct Group {
    int32_t least;
    int32_t more;
  };
  int groups;
  int32_t least[kUnit / kLanes];
  int measured;
  Group of[kUnit / kLanes];
};

// Needs VBMI.
TfPofStatus SampleWindows(const UnitRows& rows, WindowSample* sample);

// Of all units together.
double EstimateWindowSteps(const Layer& layer, const WindowSample* samples);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WINDOW_STEPS_H_
