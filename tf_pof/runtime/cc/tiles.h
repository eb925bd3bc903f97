// Packing for the "tiles" kernels: 16 outputs x 4 or 8 inputs at a time,
// all-zero tiles left out. With few zeros this is the dense kernel.
#ifndef TF_POF_RUNTIME_CC_TILES_H_
#define TF_POF_RUNTIME_CC_TILES_H_

#include "buffer.h"
#include "kernel.h"

namespace tf_pof {

inline constexpr int kTileOutputs = 16;
inline constexpr int kTileInputs = 4;

struct Tiles {
  int inputs;
  int outputs;
  int tile_inputs;
  int shift;
  bool pairs;               // see PackTiles
  bool has_lowest;          // a weight is -128; only known with a shift of 0
  Buffer<int32_t> bias;     // corrected, of whole groups of 16 outputs
  Buffer<uint32_t> starts;  // [groups + 1], into the two below
  Buffer<uint32_t> blocks;  // first input / tile_inputs
  Buffer<int8_t> weights;   // [tiles, 16, tile_inputs]
};

// `tile_inputs` is 4 or 8; `shift` is what the kernel's inputs have added. With
// `pairs`, where no tile of groups 2 i and 2 i + 1 is left out and both have 16
// outputs, their tiles alternate: a kernel that takes two groups at once reads
// one stream.
TfPofStatus PackTiles(const Layer& layer, int tile_inputs, int shift,
                      bool pairs, void** packed);
void FreeTiles(void* packed);
size_t TilesBytes(const void* packed);

// tiles_stored.cc: `packed` has its sizes and no arrays yet.
void ListTiles(const void* packed, StoredArrays* arrays);
bool TakeTiles(const StoredArrays& arrays, Tiles* packed);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TILES_H_
