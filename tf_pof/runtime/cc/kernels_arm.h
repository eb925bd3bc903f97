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

// tiles_neon.cc, tiles_neondot.cc and tiles_i8mm.cc; packed weights of
// PackTiles with 4, 4 and 8 inputs.
size_t TilesNeonScratch(const void* packed);
void RunTilesNeon(const void* packed, const Epilogue& epilogue,
                  const Task& task);
void RunTilesNeonDot(const void* packed, const Epilogue& epilogue,
                     const Task& task);
void RunTilesI8mm(const void* packed, const Epilogue& epilogue,
                  const Task& task);

// layout_neon.cc
void RowsToPanelNeon(const int8_t* rows, size_t stride, int tokens,
                     int channels, uint8_t* panel);
void PanelToRowsNeon(const uint8_t* panel, int tokens, int channels,
                     int8_t* rows, size_t stride);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_KERNELS_ARM_H_
