// The plain C kernels, called through the table in kernels.cc.
#ifndef TF_POF_RUNTIME_CC_SCALAR_H_
#define TF_POF_RUNTIME_CC_SCALAR_H_

#include "kernel.h"

namespace tf_pof {

// The oracle: rows times rows, as written in fully_connected.h.
TfPofStatus PackDenseScalar(const Layer& layer, void** packed);
void FreeDenseScalar(void* packed);
size_t DenseScalarBytes(const void* packed);
void RunDenseScalar(const void* packed, const Epilogue& epilogue,
                    const Task& task);

// Nonzeros times panels, for processors with no kernel of their own.
TfPofStatus PackSparseScalar(const Layer& layer, void** packed);
void FreeSparseScalar(void* packed);
size_t SparseScalarBytes(const void* packed);
void RunSparseScalar(const void* packed, const Epilogue& epilogue,
                     const Task& task);

size_t NoScratch(const void* packed);

void RowsToPanelScalar(const int8_t* rows, size_t stride, int tokens,
                       int channels, uint8_t* panel);
void PanelToRowsScalar(const uint8_t* panel, int tokens, int channels,
                       int8_t* rows, size_t stride);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_SCALAR_H_
