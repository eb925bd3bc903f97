// Packing for the "interleave" kernels: nonzeros by fours.
//
// A block of `rows` outputs (1, 2 or 4) shares a list of the inputs that any
// of them needs. The kernel takes four inputs of the list at a time, a quad:
// it loads their 64 tokens each from the panel, interleaves the bytes so that
// the four inputs of a token are neighbours, and multiplies them by the four
// weights of each output with one dot-product instruction.
//
// Blocks of 1 x 4 come as quads already: all quads of the panel are interleaved
// beforehand, and outputs have lists of those.
//
// Blocks are sorted by length inside a unit, so that loops of one length
// follow each other and branches are predicted. With one row two outputs of
// about one length run side by side, as two independent chains.
#ifndef TF_POF_RUNTIME_CC_INTERLEAVE_H_
#define TF_POF_RUNTIME_CC_INTERLEAVE_H_

#include "buffer.h"
#include "kernel.h"

namespace tf_pof {

// One quad in the stream. An index is that of an input, counted from its tile,
// times 8: the panel's row is at index * 8 bytes, an addressing mode of x86.
// Indices are four 16-bit numbers, the first in the lowest bits. A shorter
// list is filled up with weights of zero.
struct PairQuad {  // 1 x 1: two outputs
  uint64_t indices[2];
  uint32_t weights[2];
};
template <int rows>
struct BlockQuad {
  uint64_t indices;
  uint32_t weights[rows];
};
struct AlignedPair {    // columns == 4: two outputs
  uint32_t offsets[2];  // in bytes, among the interleaved quads of the tile
  uint32_t weights[2];
};
inline constexpr int kAlignedQuadBytes = 4 * kPanelTokens;

struct InterleaveGroup {
  uint16_t quads;
  // Outputs within the unit: a pair's two, of which the second may be
  // kNoOutput, or a block's first.
  uint16_t first;
  uint16_t second;
};
inline constexpr uint16_t kNoOutput = 0xFFFF;

struct Interleaved {
  int inputs;
  int outputs;
  int rows;     // of a block
  int columns;  // 4 for 1 x 4, else 1
  int units;
  // Of the inputs: a tile's panel rows stay in the L1 cache. But where lists
  // are short, keeping sums between tiles takes longer than inputs from the L2
  // cache, and all inputs are one.
  int tiles;
  int tile_inputs;  // a multiple of 64
  int shift;
  Buffer<int32_t> bias;  // [outputs], corrected
  Buffer<uint8_t> stream;
  Buffer<InterleaveGroup> groups;
  // By tile * units + unit, and one more for the end.
  Buffer<uint32_t> first_group;
  Buffer<size_t> first_byte;
};

// `shift` is what the kernel's inputs have added; `tile_inputs` is a multiple
// of 64 and at most 1024. `far` allows for one tile of more.
TfPofStatus PackInterleaved(const Layer& layer, int rows, int columns,
                            int tile_inputs, bool far, int shift,
                            void** packed);
void FreeInterleaved(void* packed);
size_t InterleavedBytes(const void* packed);
// interleave_stored.cc: `packed` has its sizes and no arrays yet.
void ListInterleaved(const void* packed, StoredArrays* arrays);
bool TakeInterleaved(const StoredArrays& arrays, Interleaved* packed);
// Kernels keep the sums of 64 tokens there between tiles, and before them the
// interleaved quads of a tile for 1 x 4.
size_t InterleavedScratch(const void* packed);
static inline size_t AlignedBytes(const Interleaved& p) {
  return p.columns == 1 ? 0 : static_cast<size_t>(p.tile_inputs) * kPanelTokens;
}

static inline size_t InterleavedQuadBytes(int rows, int columns) {
  return columns == 4 ? sizeof(AlignedPair)
         : rows == 1  ? sizeof(PairQuad)
         : rows == 2  ? sizeof(BlockQuad<2>)
                      : sizeof(BlockQuad<4>);
}

// Quads of a block that has nonzeros in `count` inputs.
static inline int Quads(int count) { return (count + 3) / 4; }

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_INTERLEAVE_H_
