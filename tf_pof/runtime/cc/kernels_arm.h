// The kernels for 64-bit Arm, called through the table in kernels.cc.
#ifndef TF_POF_RUNTIME_CC_KERNELS_ARM_H_
#define TF_POF_RUNTIME_CC_KERNELS_ARM_H_

#include "kernel.h"

namespace tf_pof {

// interleave_neon.cc and interleave_neondot.cc; packed weights of
// PackInterleaved with 1 or 4 rows.
void RunInterleavedNeon(const void* packed, const Epilogue& epilogue,
                        const Task& task);
void RunInterleavedNeonDot(const void* packed, const Epilogue& epilogue,
                           const Task& task);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_KERNELS_ARM_H_
