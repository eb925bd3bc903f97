// The arrays of "interleave" kernels in files.
#include "interleave.h"
#include "stored.h"

namespace tf_pof {
namespace {

// What the groups of one unit in one tile must keep to.
struct UnitCheck {
  const Interleaved* packed;
  int outputs;  // of the unit
  int inputs;   // of the tile
  bool seen[kUnit];
  int count;

  // Each output is there once.
  bool Output(int first) {
    const int rows = packed->rows;
    if (first % rows != 0 || first >= outputs || seen[first]) return false;
    seen[first] = true;
    count += Min(rows, outputs - first);
    return true;
  }

  bool Indices(uint64_t indices) const {
    for (int i = 0; i < 4; ++i, indices >>= 16) {
      const int index = static_cast<uint16_t>(indices);
      if (index % 8 != 0 || index / 8 >= inputs) return false;
    }
    return true;
  }

  bool Offset(uint32_t offset) const {
    const uint32_t quads = CeilDiv(inputs, 4);
    return offset % kAlignedQuadBytes == 0 &&
           offset / kAlignedQuadBytes < quads;
  }

  // Quads of a group; null if one is wrong, else where they end.
  const uint8_t* Quads(const uint8_t* at, int quads) const {
    if (packed->columns == 4) {
      auto* pair = reinterpret_cast<const AlignedPair*>(at);
      for (const AlignedPair* end = pair + quads; pair != end; ++pair) {
        if (!Offset(pair->offsets[0]) || !Offset(pair->offsets[1])) {
          return nullptr;
        }
      }
      return reinterpret_cast<const uint8_t*>(pair);
    }
    const size_t numbers = packed->rows == 1 ? 2 : 1;
    const size_t bytes = InterleavedQuadBytes(packed->rows, packed->columns);
    for (int q = 0; q < quads; ++q, at += bytes) {
      for (size_t i = 0; i < numbers; ++i) {
        uint64_t indices;
        memcpy(&indices, at + i * sizeof(indices), sizeof(indices));
        if (!Indices(indices)) return nullptr;
      }
    }
    return at;
  }
};

bool ValidUnit(const Interleaved& p, int tile, int unit) {
  UnitCheck check = {&p, Min(kUnit, p.outputs - unit * kUnit),
                     Min(p.tile_inputs, p.inputs - tile * p.tile_inputs),
                     {}, 0};
  const size_t place = static_cast<size_t>(tile) * p.units + unit;
  size_t left = p.first_byte.data[place + 1] - p.first_byte.data[place];
  const uint8_t* at = p.stream.data + p.first_byte.data[place];
  for (uint32_t i = p.first_group.data[place];
       i < p.first_group.data[place + 1]; ++i) {
    const InterleaveGroup& group = p.groups.data[i];
    const size_t bytes =
        group.quads * InterleavedQuadBytes(p.rows, p.columns);
    if (bytes > left || !check.Output(group.first)) return false;
    left -= bytes;
    if (p.rows == 1 && group.second != kNoOutput &&
        !check.Output(group.second)) {
      return false;
    }
    at = check.Quads(at, group.quads);
    if (at == nullptr) return false;
  }
  return left == 0 && check.count == check.outputs;
}

}  // namespace

void ListInterleaved(const void* packed, StoredArrays* arrays) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  arrays->Add(p.bias);
  arrays->Add(p.stream);
  arrays->Add(p.groups);
  arrays->Add(p.first_group);
  arrays->Add(p.first_byte);
}

bool TakeInterleaved(const StoredArrays& arrays, Interleaved* p) {
  const size_t places = static_cast<size_t>(p->tiles) * p->units + 1;
  if (!arrays.Take(0, p->outputs, &p->bias) || !arrays.Take(1, &p->stream) ||
      !arrays.Take(2, &p->groups) || !arrays.Take(3, places, &p->first_group) ||
      !arrays.Take(4, places, &p->first_byte) ||
      !ValidStarts(p->first_group, p->groups.size) ||
      !ValidStarts(p->first_byte, p->stream.size)) {
    return false;
  }
  for (int tile = 0; tile < p->tiles; ++tile) {
    for (int unit = 0; unit < p->units; ++unit) {
      if (!ValidUnit(*p, tile, unit)) return false;
    }
  }
  return true;
}

}  // namespace tf_pof
