#include "interleave.h"

#include "unit_rows.h"

namespace tf_pof {
namespace {

// Inputs of a tile at most: indices are below 2^16 / 8.
constexpr int kMaxTile = 4096;
// So many are one tile, whatever the wanted size.
constexpr int kFewInputs = 1024;
// What it costs a block to keep its sums between two tiles, in quads of inputs
// that are read from the L2 cache: below 20 % of nonzeros, four tiles of 768
// inputs take as long as one.
constexpr int kQuadsOfSums = 50;

struct Block {
  int first;  // output of the layer
  int quads;
};

// Puts blocks with more quads first; equal ones keep their order.
void SortByLength(Block* blocks, int count) {
  int start[kMaxTile / 4 + 2] = {};
  Block sorted[kUnit];
  for (int i = 0; i < count; ++i) ++start[kMaxTile / 4 - blocks[i].quads + 1];
  for (int i = 1; i <= kMaxTile / 4 + 1; ++i) start[i] += start[i - 1];
  for (int i = 0; i < count; ++i) {
    sorted[start[kMaxTile / 4 - blocks[i].quads]++] = blocks[i];
  }
  memcpy(blocks, sorted, count * sizeof(Block));
}

// The part of a layer that a block's list is made of.
struct TileRows {
  const UnitRows* rows;
  int begin_word;
  int end_word;

  // Inputs that any of the block's outputs needs, as bits.
  uint64_t Needed(int first_output, int block_rows, int word) const {
    uint64_t any = 0;
    const int end = Min(first_output + block_rows, rows->end);
    for (int n = first_output; n < end; ++n) any |= rows->mask(n)[word];
    return any;
  }

  int Count(int first_output, int block_rows) const {
    int count = 0;
    for (int word = begin_word; word < end_word; ++word) {
      count += CountOnes(Needed(first_output, block_rows, word));
    }
    return count;
  }
};

// A block's list in one tile, filled up to whole quads.
struct List {
  uint16_t inputs[kMaxTile + 4];  // from the tile's first on
  int count;

  void Read(const TileRows& tile, int first, int rows, int quads) {
    count = 0;
    for (int word = tile.begin_word; word < tile.end_word; ++word) {
      const int begin = (word - tile.begin_word) * kMaskBits;
      for (uint64_t bits = tile.Needed(first, rows, word); bits != 0;
           bits &= bits - 1) {
        inputs[count++] = static_cast<uint16_t>(begin + __builtin_ctzll(bits));
      }
    }
    // The last input again: its row of the panel is at hand.
    const uint16_t fill = count > 0 ? inputs[count - 1] : 0;
    for (int i = count; i < quads * 4; ++i) inputs[i] = fill;
  }

  uint64_t Indices(int quad) const {
    uint64_t packed = 0;
    for (int i = 0; i < 4; ++i) {
      const uint64_t index = inputs[quad * 4 + i] * 8;
      packed |= index << (16 * i);
    }
    return packed;
  }

  uint32_t Weights(const TileRows& tile, int output, int quad) const {
    uint32_t packed = 0;
    if (output >= tile.rows->end) return packed;
    const int8_t* w = tile.rows->row(output) + tile.begin_word * kMaskBits;
    for (int i = 0; i < 4 && quad * 4 + i < count; ++i) {
      const uint8_t weight = w[inputs[quad * 4 + i]];
      packed |= static_cast<uint32_t>(weight) << (8 * i);
    }
    return packed;
  }
};

template <int rows>
void WriteBlock(const TileRows& tile, const List& list, int first, int quads,
                uint8_t* to) {
  for (int q = 0; q < quads; ++q) {
    BlockQuad<rows> quad = {};
    quad.indices = list.Indices(q);
    for (int r = 0; r < rows; ++r) {
      quad.weights[r] = list.Weights(tile, first + r, q);
    }
    memcpy(to + q * sizeof(quad), &quad, sizeof(quad));
  }
}

void WritePair(const TileRows& tile, const List lists[2], const int outputs[2],
               int quads, uint8_t* to) {
  for (int q = 0; q < quads; ++q) {
    PairQuad quad;
    for (int i = 0; i < 2; ++i) {
      quad.indices[i] = lists[i].Indices(q);
      quad.weights[i] = lists[i].Weights(tile, outputs[i], q);
    }
    memcpy(to + q * sizeof(quad), &quad, sizeof(quad));
  }
}

// Lowest bits of the four inputs' groups that have a nonzero.
uint64_t AlignedQuads(uint64_t bits) {
  bits |= bits >> 2;
  return (bits | bits >> 1) & 0x1111111111111111;
}

int CountAligned(const TileRows& tile, int output) {
  int count = 0;
  for (int word = tile.begin_word; word < tile.end_word; ++word) {
    count += CountOnes(AlignedQuads(tile.rows->mask(output)[word]));
  }
  return count;
}

// One of a pair's outputs; what is left of its quads has weights of zero.
void WriteAligned(const TileRows& tile, int output, int place, uint8_t* to) {
  if (output >= tile.rows->end) return;
  const int begin = tile.begin_word * kMaskBits;
  const int8_t* w = tile.rows->row(output) + begin;
  for (int word = tile.begin_word; word < tile.end_word; ++word) {
    for (uint64_t bits = AlignedQuads(tile.rows->mask(output)[word]); bits != 0;
         bits &= bits - 1) {
      const int k = word * kMaskBits - begin + __builtin_ctzll(bits);
      const int count = Min(4, tile.rows->layer->inputs - begin - k);
      AlignedPair pair;
      memcpy(&pair, to, sizeof(pair));
      pair.offsets[place] = static_cast<uint32_t>(k / 4 * kAlignedQuadBytes);
      memcpy(&pair.weights[place], w + k, count);
      memcpy(to, &pair, sizeof(pair));
      to += sizeof(pair);
    }
  }
}

// A unit in all tiles.
struct InterleavePart {
  Buffer<uint8_t> stream;
  Buffer<InterleaveGroup> groups;
  Buffer<size_t> tile_groups;  // where a tile begins in the two, and the end
  Buffer<size_t> tile_bytes;

  bool Pack(const UnitRows& rows, Interleaved* packed) {
    for (int n = rows.first; n < rows.end; ++n) {
      packed->bias.data[n] = rows.CorrectedBias(n, packed->shift);
    }
    const int words = packed->tile_inputs / kMaskBits;
    for (int tile = 0; tile < packed->tiles; ++tile) {
      if (!Mark() ||
          !PackTile({&rows, tile * words, Min((tile + 1) * words, rows.words)},
                    packed->rows, packed->columns)) {
        return false;
      }
    }
    return Mark();
  }

  bool Mark() {
    return tile_groups.Append(groups.size) && tile_bytes.Append(stream.size);
  }

  bool PackTile(const TileRows& tile, int rows, int columns) {
    const int first = tile.rows->first;
    Block blocks[kUnit];
    int count = 0;
    for (int n = first; n < tile.rows->end; n += rows) {
      blocks[count++] = {
          n, columns == 4 ? CountAligned(tile, n) : Quads(tile.Count(n, rows))};
    }
    SortByLength(blocks, count);
    const int step = rows == 1 ? 2 : 1;
    size_t at = stream.size;
    size_t total = 0;
    for (int i = 0; i < count; i += step) total += blocks[i].quads;
    const size_t quad_bytes = InterleavedQuadBytes(rows, columns);
    if (!stream.Resize(at + total * quad_bytes)) return false;
    List lists[2] = {};
    for (int i = 0; i < count; i += step) {
      const int quads = blocks[i].quads;
      InterleaveGroup group = {static_cast<uint16_t>(quads),
                               static_cast<uint16_t>(blocks[i].first - first),
                               kNoOutput};
      if (columns == 1) lists[0].Read(tile, blocks[i].first, rows, quads);
      uint8_t* to = stream.data + at;
      if (rows == 1) {
        // An odd one out runs beside an output that is not there.
        int outputs[2] = {blocks[i].first, tile.rows->end};
        if (i + 1 < count) {
          outputs[1] = blocks[i + 1].first;
          group.second = static_cast<uint16_t>(outputs[1] - first);
        }
        if (columns == 4) {
          for (int j = 0; j < 2; ++j) WriteAligned(tile, outputs[j], j, to);
        } else {
          lists[1].Read(tile, outputs[1], 1, quads);
          WritePair(tile, lists, outputs, quads, to);
        }
      } else if (rows == 2) {
        WriteBlock<2>(tile, lists[0], blocks[i].first, quads, to);
      } else {
        WriteBlock<4>(tile, lists[0], blocks[i].first, quads, to);
      }
      at += quads * quad_bytes;
      if (!groups.Append(group)) return false;
    }
    return true;
  }

  void Free() {
    stream.Free();
    groups.Free();
    tile_groups.Free();
    tile_bytes.Free();
  }
};

// By tiles, then units: all units of a tile find it in the cache.
bool Join(const InterleavePart* parts, int units, Interleaved* packed) {
  size_t groups = 0, bytes = 0;
  for (int unit = 0; unit < units; ++unit) {
    groups += parts[unit].groups.size;
    bytes += parts[unit].stream.size;
  }
  const size_t places = static_cast<size_t>(packed->tiles) * units + 1;
  if (!packed->groups.Resize(groups) || !packed->stream.Resize(bytes) ||
      !packed->first_group.Resize(places) ||
      !packed->first_byte.Resize(places)) {
    return false;
  }
  groups = bytes = 0;
  size_t place = 0;
  for (int tile = 0; tile < packed->tiles; ++tile) {
    for (int unit = 0; unit < units; ++unit) {
      const InterleavePart& part = parts[unit];
      packed->first_group.data[place] = static_cast<uint32_t>(groups);
      packed->first_byte.data[place++] = bytes;
      groups += part.groups.CopyTo(packed->groups.data + groups,
                                   part.tile_groups.data[tile],
                                   part.tile_groups.data[tile + 1]);
      bytes += part.stream.CopyTo(packed->stream.data + bytes,
                                  part.tile_bytes.data[tile],
                                  part.tile_bytes.data[tile + 1]);
    }
  }
  packed->first_group.data[place] = static_cast<uint32_t>(groups);
  packed->first_byte.data[place] = bytes;
  return true;
}

void SetTiles(int tiles, Interleaved* p) {
  p->tiles = tiles;
  p->tile_inputs = CeilDiv(CeilDiv(p->inputs, tiles), kMaskBits) * kMaskBits;
}

// Whether one tile, as it is packed, takes longer than so many.
bool TooLong(const Interleaved& p, int tiles) {
  const size_t quads = p.stream.size / InterleavedQuadBytes(p.rows, p.columns);
  const size_t blocks = CeilDiv(p.outputs, p.rows);
  return quads > blocks * kQuadsOfSums * (tiles - 1);
}

}  // namespace

TfPofStatus PackInterleaved(const Layer& layer, int rows, int columns,
                            int tile_inputs, bool far, int shift,
                            void** packed) {
  auto* p = static_cast<Interleaved*>(calloc(1, sizeof(Interleaved)));
  if (p == nullptr) return kTfPofOutOfMemory;
  p->inputs = layer.inputs;
  p->outputs = layer.outputs;
  p->rows = rows;
  p->columns = columns;
  p->shift = shift;
  p->units = CeilDiv(layer.outputs, kUnit);
  const int tiles =
      layer.inputs <= kFewInputs ? 1 : CeilDiv(layer.inputs, tile_inputs);
  const bool tries_one = far && layer.inputs <= kMaxTile;
  SetTiles(tries_one ? 1 : tiles, p);
  TfPofStatus status = kTfPofOutOfMemory;
  if (layer.stored != nullptr) {
    bool taken = TakeInterleaved(*layer.stored, p);
    if (!taken && p->tiles != tiles) {
      SetTiles(tiles, p);
      taken = TakeInterleaved(*layer.stored, p);
    }
    status = taken ? kTfPofOk : kTfPofInvalidArgument;
  } else if (p->bias.Resize(layer.outputs)) {
    status = PackUnits<InterleavePart>(layer, p);
    if (status == kTfPofOk && p->tiles != tiles && TooLong(*p, tiles)) {
      SetTiles(tiles, p);
      status = PackUnits<InterleavePart>(layer, p);
    }
  }
  if (status != kTfPofOk) {
    FreeInterleaved(p);
    return status;
  }
  *packed = p;
  return kTfPofOk;
}

void FreeInterleaved(void* packed) {
  auto* interleaved = static_cast<Interleaved*>(packed);
  interleaved->bias.Free();
  interleaved->stream.Free();
  interleaved->groups.Free();
  interleaved->first_group.Free();
  interleaved->first_byte.Free();
  free(interleaved);
}

size_t InterleavedBytes(const void* packed) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  return p.bias.bytes() + p.stream.bytes() + p.groups.bytes() +
         p.first_group.bytes() + p.first_byte.bytes();
}

size_t InterleavedScratch(const void* packed) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  const size_t outputs = static_cast<size_t>(p.units) * kUnit;
  return AlignedBytes(p) +
         (p.tiles == 1 ? 0 : outputs * kPanelTokens * sizeof(int32_t));
}

}  // namespace tf_pof
