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

const TransformerKernel& BestTransformerKernel(Isa isa) {
  int best = kNumTransformerKernels - 1;
  while (kTransformerKernels[best]->isa > isa ||
         !Supported(kTransformerKernels[best]->isa)) {
    --best;
  }
  return *kTransformerKernels[best];
}

}  // namespace tf_pof
