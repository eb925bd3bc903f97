#include "window_steps.h"

#include "window_cover.h"
#include "window_inputs.h"
#include "window_order.h"

namespace tf_pof {
namespace {

// Where more than these are nonzeros no group takes more steps than its
// fullest output.
constexpr double kDense = 0.6;

// One group of each unit is measured, more if all of them together would have
// fewer inputs than these: steps are few there, and one more counts.
constexpr int kInputs = 1536;

// Steps of a group in all tiles, or -1 when memory runs out.
int CoverGroup(const UnitRows& rows, const WindowTiles& tiles,
               const int32_t* outputs, int lanes) {
  const SecondWindows second(tiles.windows);
  GroupInputs inputs = {};
  GroupCover cover;
  int steps = 0;
  for (int tile = 0; tile < tiles.count && steps >= 0; ++tile) {
    const int first = tile * tiles.windows;
    const int words = Min(tiles.windows, rows.words - first);
    if (inputs.Find(rows, first, words, outputs, lanes)) {
      cover.Cover(tiles.windows, lanes, inputs.of, inputs.count, second.of);
      steps += cover.total;
    } else {
      steps = -1;
    }
  }
  inputs.inputs.Free();
  return steps;
}

bool Sample(const UnitRows& rows, WindowOrder* order, WindowSample* sample) {
  if (!order->Sort()) return false;
  const int count = rows.end - rows.first;
  double nonzeros = 0;
  for (int n = rows.first; n < rows.end; ++n) nonzeros += order->nonzeros(n);
  sample->groups = CeilDiv(count, kLanes);
  for (int i = 0; i < sample->groups; ++i) {
    sample->least[i] = order->LeastSteps(i);
  }
  if (nonzeros > kDense * rows.layer->inputs * count) return true;
  // The first unit gives a group of outputs with the most nonzeros, the last of
  // those with the fewest, units between them what lies between.
  const int units = CeilDiv(rows.layer->outputs, kUnit);
  const int64_t wanted = Min<int64_t>(
      CeilDiv<int64_t>(kInputs, int64_t{rows.layer->inputs} * units),
      sample->groups);
  for (int64_t i = 0; i < wanted; ++i) {
    const auto group = static_cast<int>((2 * (rows.unit * wanted + i) + 1) *
                                        sample->groups / (2 * units * wanted));
    const int first = group * kLanes;
    const int steps =
        CoverGroup(rows, TilesOf(rows.layer->inputs), order->outputs + first,
                   Min(kLanes, count - first));
    if (steps < 0) return false;
    sample->of[i] = {sample->least[group], steps - sample->least[group]};
    ++sample->measured;
  }
  return true;
}

}  // namespace

TfPofStatus SampleWindows(const UnitRows& rows, WindowSample* sample) {
  WindowOrder order(rows, TilesOf(rows.layer->inputs));
  const bool stored = Sample(rows, &order, sample);
  order.Free();
  return stored ? kTfPofOk : kTfPofOutOfMemory;
}

double EstimateWindowSteps(const Layer& layer, const WindowSample* samples) {
  const int units = CeilDiv(layer.outputs, kUnit);
  double steps = 0;
  for (int unit = 0; unit < units; ++unit) {
    for (int i = 0; i < samples[unit].groups; ++i) {
      const int least = samples[unit].least[i];
      // What those that were measured take more, the most like it the most.
      double more = 0, weights = 0;
      for (int from = 0; from < units; ++from) {
        for (int j = 0; j < samples[from].measured; ++j) {
          const WindowSample::Group& group = samples[from].of[j];
          const double far = 1.0 + abs(group.least - least);
          const double weight = 1 / (far * far);
          more += group.more * weight;
          weights += weight;
        }
      }
      steps += least + (weights > 0 && least > 0 ? more / weights : 0);
    }
  }
  // What WindowOrder::Swap brings.
  return TilesOf(layer.inputs).count > 1 ? steps * 0.975 : steps;
}

}  // namespace tf_pof
