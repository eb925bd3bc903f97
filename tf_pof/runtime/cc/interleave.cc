#include "interleave.h"

namespace tf_pof {
namespace {

constexpr int kMaxTile = 1024;  // indices are below 2^16 / 8

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

// A block's list in one tile, filled up to whole quads.
struct List {
  uint16_t inputs[kMaxTile + 4];  // from the tile's first on
  int count;
  int begin;

  void Read(const Layer& layer, int first, int rows, int tile_begin,
            int tile_end, int quads) {
    begin = tile_begin;
    count = BlockInputs(layer, first, rows, tile_begin, tile_end, inputs);
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

  uint32_t Weights(const Layer& layer, int output, int quad) const {
    uint32_t packed = 0;
    if (output >= layer.outputs) return packed;
    for (int i = 0; i < 4 && quad * 4 + i < count; ++i) {
      const uint8_t weight = layer.row(output)[begin + inputs[quad * 4 + i]];
      packed |= static_cast<uint32_t>(weight) << (8 * i);
    }
    return packed;
  }
};

template <typename T>
bool Append(Buffer<uint8_t>* stream, const T& quad) {
  const size_t at = stream->size;
  if (!stream->Resize(at + sizeof(T))) return false;
  memcpy(stream->data + at, &quad, sizeof(T));
  return true;
}

template <int rows>
bool AppendBlock(const Layer& layer, const List& list, int first, int quads,
                 Buffer<uint8_t>* stream) {
  for (int q = 0; q < quads; ++q) {
    BlockQuad<rows> quad = {};
    quad.indices = list.Indices(q);
    for (int r = 0; r < rows; ++r) {
      quad.weights[r] = list.Weights(layer, first + r, q);
    }
    if (!Append(stream, quad)) return false;
  }
  return true;
}

bool AppendPair(const Layer& layer, const List lists[2], const int outputs[2],
                int quads, Buffer<uint8_t>* stream) {
  for (int q = 0; q < quads; ++q) {
    PairQuad quad;
    for (int i = 0; i < 2; ++i) {
      quad.indices[i] = lists[i].Indices(q);
      quad.weights[i] = lists[i].Weights(layer, outputs[i], q);
    }
    if (!Append(stream, quad)) return false;
  }
  return true;
}

// One unit in one tile.
bool PackUnit(const Layer& layer, int unit, int begin, int end,
              Interleaved* packed) {
  const int rows = packed->rows;
  const int first = unit * kUnit;
  const int last = Min(first + kUnit, layer.outputs);
  Block blocks[kUnit];
  int count = 0;
  for (int n = first; n < last; n += rows) {
    blocks[count++] = {n,
                       Quads(BlockInputs(layer, n, rows, begin, end, nullptr))};
  }
  SortByLength(blocks, count);
  List lists[2];
  const int step = rows == 1 ? 2 : 1;
  for (int i = 0; i < count; i += step) {
    const int quads = blocks[i].quads;
    InterleaveGroup group = {static_cast<uint16_t>(quads),
                             static_cast<uint16_t>(blocks[i].first - first),
                             kNoOutput};
    lists[0].Read(layer, blocks[i].first, rows, begin, end, quads);
    bool stored;
    if (rows == 1) {
      // An odd one out runs beside an output that is not there.
      int outputs[2] = {blocks[i].first, layer.outputs};
      if (i + 1 < count) {
        outputs[1] = blocks[i + 1].first;
        group.second = static_cast<uint16_t>(outputs[1] - first);
      }
      lists[1].Read(layer, outputs[1], 1, begin, end, quads);
      stored = AppendPair(layer, lists, outputs, quads, &packed->stream);
    } else if (rows == 2) {
      stored = AppendBlock<2>(layer, lists[0], blocks[i].first, quads,
                              &packed->stream);
    } else {
      stored = AppendBlock<4>(layer, lists[0], blocks[i].first, quads,
                              &packed->stream);
    }
    if (!stored || !packed->groups.Append(group)) return false;
  }
  return true;
}

bool Pack(const Layer& layer, int shift, Interleaved* packed) {
  if (!packed->bias.Resize(layer.outputs)) return false;
  for (int n = 0; n < layer.outputs; ++n) {
    packed->bias.data[n] = layer.CorrectedBias(n, shift);
  }
  for (int tile = 0; tile < packed->tiles; ++tile) {
    const int begin = tile * packed->tile_inputs;
    const int end = Min(begin + packed->tile_inputs, layer.inputs);
    for (int unit = 0; unit < packed->units; ++unit) {
      if (!packed->first_group.Append(packed->groups.size) ||
          !packed->first_byte.Append(packed->stream.size) ||
          !PackUnit(layer, unit, begin, end, packed)) {
        return false;
      }
    }
  }
  return packed->first_group.Append(packed->groups.size) &&
         packed->first_byte.Append(packed->stream.size);
}

}  // namespace

int BlockInputs(const Layer& layer, int first_output, int rows, int begin,
                int end, uint16_t* found) {
  rows = Min(rows, layer.outputs - first_output);
  int count = 0;
  for (int k = begin; k < end; ++k) {
    int any = 0;
    for (int r = 0; r < rows; ++r) any |= layer.row(first_output + r)[k];
    if (found != nullptr) found[count] = static_cast<uint16_t>(k - begin);
    count += any != 0;
  }
  return count;
}

Interleaved* PackInterleaved(const Layer& layer, int rows, int tile_inputs,
                             int shift) {
  auto* packed = static_cast<Interleaved*>(calloc(1, sizeof(Interleaved)));
  if (packed == nullptr) return nullptr;
  packed->inputs = layer.inputs;
  packed->outputs = layer.outputs;
  packed->rows = rows;
  packed->units = CeilDiv(layer.outputs, kUnit);
  packed->tiles =
      layer.inputs <= kMaxTile ? 1 : CeilDiv(layer.inputs, tile_inputs);
  packed->tile_inputs = CeilDiv(layer.inputs, packed->tiles);
  if (!Pack(layer, shift, packed)) {
    FreeInterleaved(packed);
    return nullptr;
  }
  return packed;
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
  return p.tiles == 1 ? 0 : outputs * kPanelTokens * sizeof(int32_t);
}

}  // namespace tf_pof
