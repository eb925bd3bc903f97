// Estimates of time that a layer's kernel is chosen by.
#ifndef TF_POF_RUNTIME_CC_CHOOSE_H_
#define TF_POF_RUNTIME_CC_CHOOSE_H_

#include "kernel.h"

namespace tf_pof {

// What a kernel's time depends on.
struct WeightCounts {
  double nonzeros;
  // Quads of the interleave kernels with 1, 2 and 4 outputs a block.
  double quads[3];
  double tiles;       // 16 x 4, with a nonzero
  double wide_tiles;  // 16 x 8
  double aligned;     // 1 x 4
  double crowded;     // of those, with more nonzeros than 2:4 has
  // Of the windows kernel, measured; 0 if it cannot be chosen.
  double window_steps;
};
// With instructions up to `isa`.
TfPofStatus CountWeights(const Layer& layer, Isa isa, WeightCounts* counts);

// Cycles of one call, roughly: constants were fitted to measurements on Zen 5
// (benchmarks/runtime/kernels.py). Only their order matters.
double DenseScalarCost(const Layer& layer, const WeightCounts& counts,
                       int tokens);
double SparseScalarCost(const Layer& layer, const WeightCounts& counts,
                        int tokens);
template <int rows>
double InterleavedAvx2Cost(const Layer& layer, const WeightCounts& counts,
                           int tokens);
template <int rows>
double InterleavedAvxVnniCost(const Layer& layer, const WeightCounts& counts,
                              int tokens);
template <int rows>
double InterleavedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                             int tokens);
double AlignedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens);
double PairsAvx2Cost(const Layer& layer, const WeightCounts& counts,
                     int tokens);
double PairsAvxVnniCost(const Layer& layer, const WeightCounts& counts,
                        int tokens);
// choose_arm.cc: from models of Arm's processors. `quad` is the cycles that a
// quad of all outputs of a block takes.
template <int rows, int quad>
double InterleavedNeonCost(const Layer& layer, const WeightCounts& counts,
                           int tokens);
double TilesNeonCost(const Layer& layer, const WeightCounts& counts,
                     int tokens);
double TilesNeonDotCost(const Layer& layer, const WeightCounts& counts,
                        int tokens);
double TilesI8mmCost(const Layer& layer, const WeightCounts& counts,
                     int tokens);
double WindowsAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens);
double TilesAvx512Cost(const Layer& layer, const WeightCounts& counts,
                       int tokens);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_CHOOSE_H_
