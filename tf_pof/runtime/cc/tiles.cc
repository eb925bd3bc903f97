#include "tiles.h"

#include "unit_rows.h"

namespace tf_pof {
namespace {

constexpr int kGroups = kUnit / kTileOutputs;

void CopyTile(const UnitRows& rows, int first, int block, int tile_inputs,
              int8_t* to) {
  const int outputs = Min(kTileOutputs, rows.end - first);
  const int k = block * tile_inputs;
  const int inputs = Min(tile_inputs, rows.layer->inputs - k);
  for (int n = 0; n < outputs; ++n) {
    memcpy(to + n * tile_inputs, rows.row(first + n) + k, inputs);
  }
}

bool HasLowest(const Buffer<int8_t>& weights) {
  int8_t lowest = 0;
  for (size_t i = 0; i < weights.size; ++i) {
    lowest = Min(lowest, weights.data[i]);
  }
  return lowest == -128;
}

// Groups of 16 outputs of a unit.
struct TilesPart {
  Buffer<uint32_t> blocks;
  Buffer<int8_t> weights;

  // `starts` becomes the counts, shifted by one.
  bool Pack(const UnitRows& rows, Tiles* packed) {
    const int tile_inputs = packed->tile_inputs;
    const int tiles_a_word = kMaskBits / tile_inputs;
    const uint64_t tile_mask = (1u << tile_inputs) - 1;
    for (int n = rows.first; n < rows.end; ++n) {
      packed->bias.data[n] = rows.CorrectedBias(n, packed->shift);
    }
    for (int first = rows.first; first < rows.end; first += kTileOutputs) {
      const size_t before = blocks.size;
      for (int word = 0; word < rows.words; ++word) {
        uint64_t any = 0;
        for (int n = first; n < Min(first + kTileOutputs, rows.end); ++n) {
          any |= rows.mask(n)[word];
        }
        for (int i = 0; i < tiles_a_word; ++i) {
          if ((any >> (i * tile_inputs) & tile_mask) == 0) continue;
          const int block = word * tiles_a_word + i;
          const size_t at = weights.size;
          if (!blocks.Append(block) ||
              !weights.Resize(at + kTileOutputs * tile_inputs)) {
            return false;
          }
          CopyTile(rows, first, block, tile_inputs, weights.data + at);
        }
      }
      packed->starts.data[first / kTileOutputs + 1] =
          static_cast<uint32_t>(blocks.size - before);
    }
    return !packed->pairs || Pair(rows, packed);
  }

  // Tiles of whole groups that follow each other alternate.
  bool Pair(const UnitRows& rows, Tiles* packed) {
    const size_t bytes = kTileOutputs * packed->tile_inputs;
    const size_t count = CeilDiv(packed->inputs, packed->tile_inputs);
    const uint32_t* counts =
        packed->starts.data + rows.first / kTileOutputs + 1;
    Buffer<int8_t> pair = {};
    if (!pair.Resize(2 * count * bytes)) return false;
    int8_t* at = weights.data;
    for (int i = 0; rows.first + (i + 2) * kTileOutputs <= rows.end; i += 2) {
      if (counts[i] == count && counts[i + 1] == count) {
        for (size_t block = 0; block < count; ++block) {
          int8_t* to = pair.data + 2 * block * bytes;
          memcpy(to, at + block * bytes, bytes);
          memcpy(to + bytes, at + (count + block) * bytes, bytes);
        }
        memcpy(at, pair.data, 2 * count * bytes);
      }
      at += (counts[i] + counts[i + 1]) * bytes;
    }
    pair.Free();
    return true;
  }

  void Free() {
    blocks.Free();
    weights.Free();
  }
};

bool Join(const TilesPart* parts, int units, Tiles* packed) {
  const size_t groups = packed->starts.size - 1;
  const int tile_bytes = kTileOutputs * packed->tile_inputs;
  for (size_t i = 0; i < groups; ++i) {
    packed->starts.data[i + 1] += packed->starts.data[i];
  }
  const size_t count = packed->starts.data[groups];
  if (!packed->blocks.Resize(count) ||
      !packed->weights.Resize(count * tile_bytes)) {
    return false;
  }
  for (int unit = 0; unit < units; ++unit) {
    const size_t at = packed->starts.data[unit * kGroups];
    parts[unit].blocks.CopyTo(packed->blocks.data + at);
    parts[unit].weights.CopyTo(packed->weights.data + at * tile_bytes);
  }
  return true;
}

}  // namespace

TfPofStatus PackTiles(const Layer& layer, int tile_inputs, int shift,
                      bool pairs, void** packed) {
  auto* tiles = static_cast<Tiles*>(calloc(1, sizeof(Tiles)));
  if (tiles == nullptr) return kTfPofOutOfMemory;
  tiles->inputs = layer.inputs;
  tiles->outputs = layer.outputs;
  tiles->tile_inputs = tile_inputs;
  tiles->shift = shift;
  tiles->pairs = pairs;
  const int groups = CeilDiv(layer.outputs, kTileOutputs);
  TfPofStatus status = kTfPofOutOfMemory;
  if (layer.stored != nullptr) {
    status = TakeTiles(*layer.stored, tiles) ? kTfPofOk : kTfPofInvalidArgument;
  } else if (tiles->bias.Resize(groups * kTileOutputs) &&
             tiles->starts.Resize(groups + 1)) {
    status = PackUnits<TilesPart>(layer, tiles);
  }
  if (status != kTfPofOk) {
    FreeTiles(tiles);
    return status;
  }
  tiles->has_lowest = shift == 0 && HasLowest(tiles->weights);
  *packed = tiles;
  return kTfPofOk;
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
