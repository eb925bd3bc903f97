// The AVX512-VNNI and VBMI kernels, called through the table in kernels.cc.
#ifndef TF_POF_RUNTIME_CC_KERNELS_AVX512_H_
#define TF_POF_RUNTIME_CC_KERNELS_AVX512_H_

#include "kernel.h"

namespace tf_pof {

// interleave_avx512.cc; packed weights of PackInterleaved.
size_t InterleavedAvx512Scratch(const void* packed);
void RunInterleavedAvx512(const void* packed, const Epilogue& epilogue,
                          const Task& task);

// windows_avx512.cc; packed weights of PackWindows.
size_t WindowsAvx512Scratch(const void* packed);
void RunWindowsAvx512(const void* packed, const Epilogue& epilogue,
                      const Task& task);

// tiles_avx512.cc; packed weights of PackTiles.
size_t TilesAvx512Scratch(const void* packed);
void RunTilesAvx512(const void* packed, const Epilogue& epilogue,
                    const Task& task);

// layout_avx512.cc
void RowsToPanelAvx512(const int8_t* rows, size_t stride, int tokens,
                       int channels, uint8_t* panel);
void PanelToRowsAvx512(const uint8_t* panel, int tokens, int channels,
                       int8_t* rows, size_t stride);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_KERNELS_AVX512_H_
