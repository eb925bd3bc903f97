// The kernels for x86, called through the table in kernels.cc. avx512 stands
// for AVX512-VNNI and VBMI.
#ifndef TF_POF_RUNTIME_CC_KERNELS_X86_H_
#define TF_POF_RUNTIME_CC_KERNELS_X86_H_

#include "kernel.h"

namespace tf_pof {

// interleave_avx512.cc; packed weights of PackInterleaved.
void RunInterleavedAvx512(const void* packed, const Epilogue& epilogue,
                          const Task& task);

// interleave_avx2.cc; of PackInterleaved with one row or four, one column.
void RunInterleavedAvx2(const void* packed, const Epilogue& epilogue,
                        const Task& task);
void RunInterleavedAvxVnni(const void* packed, const Epilogue& epilogue,
                           const Task& task);

// pairs_avx2.cc; packed weights of PackPairs, of 2 bytes and of 1.
void RunPairsAvx2(const void* packed, const Epilogue& epilogue,
                  const Task& task);
void RunPairsAvxVnni(const void* packed, const Epilogue& epilogue,
                     const Task& task);

// windows_avx512.cc; packed weights of PackWindows.
size_t WindowsAvx512Scratch(const void* packed);
void RunWindowsAvx512(const void* packed, const Epilogue& epilogue,
                      const Task& task);

// tiles_avx512.cc; packed weights of PackTiles.
size_t TilesAvx512Scratch(const void* packed);
void RunTilesAvx512(const void* packed, const Epilogue& epilogue,
                    const Task& task);

// layout_avx2.cc and layout_avx512.cc
void RowsToPanelAvx2(const int8_t* rows, size_t stride, int tokens,
                     int channels, uint8_t* panel);
void PanelToRowsAvx2(const uint8_t* panel, int tokens, int channels,
                     int8_t* rows, size_t stride);
void RowsToPanelAvx512(const int8_t* rows, size_t stride, int tokens,
                       int channels, uint8_t* panel);
void PanelToRowsAvx512(const uint8_t* panel, int tokens, int channels,
                       int8_t* rows, size_t stride);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_KERNELS_X86_H_
