#define TF_POF_VECTOR "vector_neon.h"
#include "attention_vector.h"
#include "layer_norm_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerNeonDot = {"transformer_neondot",
                                               Isa::kNeonDot,
                                               Attention,
                                               LayerNorm,
                                               Embeddings,
                                               Quantize,
                                               Dequantize};

}  // namespace tf_pof
