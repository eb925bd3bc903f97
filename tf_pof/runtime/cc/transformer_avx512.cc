#define TF_POF_VECTOR "vector_avx512.h"
#include "attention_vector.h"
#include "layer_norm_panel_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerAvx512 = {"transformer_avx512vnni",
                                              Isa::kAvx512Vnni,
                                              Attention,
                                              LayerNorm,
                                              Embeddings,
                                              PanelNorm,
                                              Quantize,
                                              Dequantize};

}  // namespace tf_pof
