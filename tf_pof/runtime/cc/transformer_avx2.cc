#define TF_POF_VECTOR "vector_avx2.h"
#include "attention_vector.h"
#include "layer_norm_panel_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerAvx2 = {
    "transformer_avx2", Isa::kAvx2, Attention, LayerNorm,
    Embeddings,         PanelNorm,  Quantize,  Dequantize};

}  // namespace tf_pof
