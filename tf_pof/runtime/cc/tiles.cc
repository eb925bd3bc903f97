#include "tiles.h"

namespace tf_pof {
namespace {

// Copies a tile; false if it has only zeros.
bool ReadTile(const Layer& layer, int group, int block, int8_t* to) {
  const int first = group * kTileOutputs;
  const int outputs = Min(kTileOutputs, layer.outputs - first);
  const int k = block * kTileInputs;
  const int inputs = Min(kTileInputs, layer.inputs - k);
  int any = 0;
  for (int n = 0; n < outputs; ++n) {
    const int8_t* from = layer.row(first + n) + k;
    for (int i = 0; i < inputs; ++i) {
      any |= from[i];
      to[n * kTileInputs + i] = from[i];
    }
  }
  return any != 0;
}

bool Pack(const Layer& layer, int shift, Tiles* packed) {
  const int groups = CeilDiv(layer.outputs, kTileOutputs);
  const int blocks = CeilDiv(layer.inputs, kTileInputs);
  if (!packed->bias.Resize(groups * kTileOutputs)) return false;
  for (int n = 0; n < layer.outputs; ++n) {
    packed->bias.data[n] = layer.CorrectedBias(n, shift);
  }
  for (int group = 0; group < groups; ++group) {
    if (!packed->starts.Append(packed->blocks.size)) return false;
    for (int block = 0; block < blocks; ++block) {
      int8_t tile[kTileOutputs * kTileInputs] = {};
      if (!ReadTile(layer, group, block, tile)) continue;
      const size_t at = packed->weights.size;
      if (!packed->blocks.Append(block) ||
          !packed->weights.Resize(at + sizeof(tile))) {
        return false;
      }
      memcpy(packed->weights.data + at, tile, sizeof(tile));
    }
  }
  return packed->starts.Append(packed->blocks.size);
}

}  // namespace

void* PackTiles(const Layer& layer, int shift) {
  auto* packed = static_cast<Tiles*>(calloc(1, sizeof(Tiles)));
  if (packed == nullptr) return nullptr;
  packed->inputs = layer.inputs;
  packed->outputs = layer.outputs;
  if (!Pack(layer, shift, packed)) {
    FreeTiles(packed);
    return nullptr;
  }
  return packed;
}

void FreeTiles(void* packed) {
  auto* tiles = static_cast<Tiles*>(packed);
  tiles->bias.Free();
  tiles->starts.Free();
  tiles->blocks.Free();
  tiles->weights.Free();
  free(tiles);
}

size_t TilesBytes(const void* packed) {
  const auto& p = *static_cast<const Tiles*>(packed);
  return p.bias.bytes() + p.starts.bytes() + p.blocks.bytes() +
         p.weights.bytes();
}

}  // namespace tf_pof
