#define TF_POF_VECTOR "vector_neon.h"
#include "attention_vector.h"
#include "layer_norm_panel_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerNeonDot = {"transformer_neondot",
                                               Isa::kNeonDot,
                                               Attention,
                                               LayerNorm,
                                               Embeddings,
                                               PanelNorm,
                                               Quantize,
                                               Dequantize};

}  // namespace tf_pof
