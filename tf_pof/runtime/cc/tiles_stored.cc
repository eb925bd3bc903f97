// The arrays of "tiles" kernels in files.
#include "stored.h"
#include "tiles.h"

namespace tf_pof {

void ListTiles(const void* packed, StoredArrays* arrays) {
  const auto& p = *static_cast<const Tiles*>(packed);
  arrays->Add(p.bias);
  arrays->Add(p.starts);
  arrays->Add(p.blocks);
  arrays->Add(p.weights);
}

bool TakeTiles(const StoredArrays& arrays, Tiles* p) {
  const size_t groups = CeilDiv(p->outputs, kTileOutputs);
  const uint32_t blocks = CeilDiv(p->inputs, p->tile_inputs);
  if (!arrays.Take(0, groups * kTileOutputs, &p->bias) ||
      !arrays.Take(1, groups + 1, &p->starts) || !arrays.Take(2, &p->blocks) ||
      !arrays.Take(3, p->blocks.size * kTileOutputs * p->tile_inputs,
                   &p->weights) ||
      !ValidStarts(p->starts, p->blocks.size)) {
    return false;
  }
  // A group with more tiles than there are would look whole to its neighbours.
  for (size_t i = 0; i < groups; ++i) {
    if (p->starts.data[i + 1] - p->starts.data[i] > blocks) return false;
  }
  for (size_t i = 0; i < p->blocks.size; ++i) {
    if (p->blocks.data[i] >= blocks) return false;
  }
  return true;
}

}  // namespace tf_pof
