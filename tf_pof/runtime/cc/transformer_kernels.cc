// The table of transformer kernels: dispatch and tests are driven by it.
#include "transformer_kernel.h"

namespace tf_pof {

const TransformerKernel* const kTransformerKernels[] = {
    &kTransformerScalar,
#if defined(__x86_64__)
    &kTransformerAvx2,
    &kTransformerAvxVnni,
    &kTransformerAvx512,
#elif defined(__aarch64__)
    &kTransformerNeon,
    &kTransformerNeonDot,
#endif
};
const int kNumTransformerKernels =
    sizeof(kTransformerKernels) / sizeof(kTransformerKernels[0]);

const TransformerKernel& BestTransformerKernel() {
  int best = kNumTransformerKernels - 1;
  while (!Supported(kTransformerKernels[best]->isa)) --best;
  return *kTransformerKernels[best];
}

}  // namespace tf_pof
