// Estimates of time that a layer's kernel is chosen by.
#ifndef TF_POF_RUNTIME_CC_CHOOSE_H_
#define TF_POF_RUNTIME_CC_CHOOSE_H_

#include "kernel.h"

namespace tf_pof {

// Cycles of one call, roughly: constants were fitted to measurements on Zen 5
// (benchmarks/runtime/kernels.py). Only their order matters.
double DenseScalarCost(const Layer& layer, int tokens);
double SparseScalarCost(const Layer& layer, int tokens);
double InterleavedAvx2Cost(const Layer& layer, int tokens);
double InterleavedAvxVnniCost(const Layer& layer, int tokens);
template <int rows>
double InterleavedAvx512Cost(const Layer& layer, int tokens);
template <int rows>
double InterleavedNeonCost(const Layer& layer, int tokens);
double WindowsAvx512Cost(const Layer& layer, int tokens);
double TilesAvx512Cost(const Layer& layer, int tokens);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_CHOOSE_H_
