// The oracle: plain C++.
#define TF_POF_VECTOR "vector_scalar.h"
#include "attention_vector.h"
#include "layer_norm_panel_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerScalar = {
    "transformer_scalar", Isa::kAny, Attention, LayerNorm,
    Embeddings,           PanelNorm, Quantize,  Dequantize};

}  // namespace tf_pof
