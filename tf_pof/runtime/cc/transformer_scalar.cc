// The oracle: plain C++.
#include "attention_vector.h"
#include "layer_norm_vector.h"
#include "quantize_vector.h"
#include "vector_scalar.h"

namespace tf_pof {

const TransformerKernel kTransformerScalar = {
    "transformer_scalar", Isa::kAny, Attention, LayerNorm,
    Embeddings,           Quantize,  Dequantize};

}  // namespace tf_pof
