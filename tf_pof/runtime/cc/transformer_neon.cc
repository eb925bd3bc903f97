#define TF_POF_VECTOR "vector_neon.h"
#include "attention_vector.h"
#include "layer_norm_vector.h"

namespace tf_pof {

const TransformerKernel kTransformerNeon = {
    "transformer_neon", Isa::kNeon, Attention, LayerNorm,
    Embeddings,         Quantize,   Dequantize};

}  // namespace tf_pof
