// Packing for the "pairs" kernels: 2:4, two nonzeros at most in each aligned
// group of four inputs of an output.
//
// A group has six pairs of inputs. The kernel interleaves the bytes of all of
// them beforehand, for a tile of the inputs that stays in the L1 cache, and
// then takes one pair of each group for each output: what interleaving costs is
// shared by all outputs.
#ifndef TF_POF_RUNTIME_CC_PAIRS_H_
#define TF_POF_RUNTIME_CC_PAIRS_H_

#include "buffer.h"
#include "kernel.h"

namespace tf_pof {

inline constexpr int kGroupInputs = 4;
inline constexpr int kGroupPairs = 6;
inline constexpr int kPairTokens = 32;  // half a panel is interleaved at a time

// Eight groups of one output. A pick leads to a pair of a group: it is the
// pair's number times 16, and 96 more in every second group, so that two groups
// have one address and an addressing mode of x86 multiplies the rest.
inline constexpr int kBlockGroups = 8;
inline constexpr int kBlockInputs = kBlockGroups * kGroupInputs;
inline constexpr int kPickStep = 16;
inline constexpr int kSecondPick = kGroupPairs * kPickStep;
template <typename Weight>
struct PairBlock {
  uint8_t picks[kBlockGroups];
  Weight weights[kBlockGroups][2];
};

// Outputs whose blocks alternate.
inline constexpr int kPairOutputs = 2;

struct Pairs {
  int inputs;
  int outputs;
  int weight_bytes;
  int shift;
  int tiles;
  int tile_blocks;  // of a tile but the last
  int blocks;       // of all tiles
  int couples;      // of outputs; units are whole couples but for the last
  Buffer<int32_t> bias;  // [outputs], corrected
  // [tiles][couples][blocks of the tile][kPairOutputs] PairBlocks.
  Buffer<uint8_t> stream;

  int TileBlocks(int tile) const {
    const int rest = blocks - tile * tile_blocks;
    return rest < tile_blocks ? rest : tile_blocks;
  }
  size_t BlockBytes() const {
    return kBlockGroups * (1 + 2 * static_cast<size_t>(weight_bytes));
  }
  // Where the blocks of a couple in a tile begin.
  size_t FirstByte(int tile, int couple) const {
    const size_t before = static_cast<size_t>(tile) * tile_blocks * couples +
                          static_cast<size_t>(couple) * TileBlocks(tile);
    return before * kPairOutputs * BlockBytes();
  }
  size_t StreamBytes() const {
    return static_cast<size_t>(blocks) * couples * kPairOutputs * BlockBytes();
  }
};

// `weight_bytes` is 1 or 2, `tile_inputs` a multiple of 32. A layer with more
// than two nonzeros in a group is kTfPofInvalidArgument.
TfPofStatus PackPairs(const Layer& layer, int weight_bytes, int tile_inputs,
                      int shift, void** packed);
void FreePairs(void* packed);
size_t PairsBytes(const void* packed);
// Kernels keep the interleaved pairs of a tile there, and behind them the sums
// of 64 tokens between tiles.
size_t PairsScratch(const void* packed);
static inline size_t PairTableBytes(const Pairs& p) {
  return static_cast<size_t>(p.tile_blocks) * kBlockGroups * kGroupPairs *
         kPairTokens * 2 * p.weight_bytes;
}

// pairs_stored.cc: `packed` has its sizes and no arrays yet.
void ListPairs(const void* packed, StoredArrays* arrays);
bool TakePairs(const StoredArrays& arrays, Pairs* packed);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PAIRS_H_
