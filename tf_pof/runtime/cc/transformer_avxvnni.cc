#define TF_POF_VECTOR "vector_avx2.h"
#include "attention_vector.h"
#include "layer_norm_panel_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerAvxVnni = {"transformer_avxvnni",
                                               Isa::kAvxVnni,
                                               Attention,
                                               LayerNorm,
                                               Embeddings,
                                               PanelNorm,
                                               Quantize,
                                               Dequantize};

}  // namespace tf_pof
