#include "pairs.h"

#include "unit_rows.h"

namespace tf_pof {
namespace {

// Numbers of the pairs {first, second}, and of one nonzero with any other.
constexpr uint8_t kPairOf[1 << kGroupInputs] = {
    0,  // none
    0, 0, 0,  // 0, 1, 0 and 1
    1, 1, 3,  // 2, 0 and 2, 1 and 2
    0xFF,
    2, 2, 4,  // 3, 0 and 3, 1 and 3
    0xFF,
    5,  // 2 and 3
    0xFF, 0xFF, 0xFF};

// The inputs of pair `i`, in the order in which kernels interleave.
constexpr uint8_t kPairInputs[kGroupPairs][2] = {{0, 1}, {0, 2}, {0, 3},
                                                 {1, 2}, {1, 3}, {2, 3}};

// One output's blocks of a tile, of which there is every kPairOutputs-th.
template <typename Weight>
bool WriteBlocks(const UnitRows& rows, int output, int first_block, int blocks,
                 uint8_t* to) {
  const int8_t* w = rows.row(output);
  const uint64_t* mask = rows.mask(output);
  for (int b = 0; b < blocks; ++b) {
    PairBlock<Weight> block = {};
    for (int g = 0; g < kBlockGroups; ++g) {
      const int k = (first_block + b) * kBlockInputs + g * kGroupInputs;
      uint32_t bits = 0;
      if (k < rows.layer->inputs) {
        bits = mask[k / kMaskBits] >> (k % kMaskBits) & 0xF;
      }
      const int pair = kPairOf[bits];
      if (pair == 0xFF) return false;
      block.picks[g] =
          static_cast<uint8_t>(pair * kPickStep + g % 2 * kSecondPick);
      for (int i = 0; i < 2; ++i) {
        const int input = kPairInputs[pair][i];
        if ((bits >> input & 1) != 0) block.weights[g][i] = w[k + input];
      }
    }
    memcpy(to + static_cast<size_t>(b) * kPairOutputs * sizeof(block), &block,
           sizeof(block));
  }
  return true;
}

TfPofStatus PackUnit(void* context, const UnitRows& rows) {
  const auto& p = *static_cast<const Pairs*>(context);
  for (int n = rows.first; n < rows.end; ++n) {
    p.bias.data[n] = rows.CorrectedBias(n, p.shift);
    for (int tile = 0; tile < p.tiles; ++tile) {
      uint8_t* to = p.stream.data + p.FirstByte(tile, n / kPairOutputs) +
                    n % kPairOutputs * p.BlockBytes();
      const auto write =
          p.weight_bytes == 1 ? WriteBlocks<int8_t> : WriteBlocks<int16_t>;
      if (!write(rows, n, tile * p.tile_blocks, p.TileBlocks(tile), to)) {
        return kTfPofInvalidArgument;
      }
    }
  }
  return kTfPofOk;
}

}  // namespace

TfPofStatus PackPairs(const Layer& layer, int weight_bytes, int tile_inputs,
                      int shift, void** packed) {
  auto* p = static_cast<Pairs*>(calloc(1, sizeof(Pairs)));
  if (p == nullptr) return kTfPofOutOfMemory;
  p->inputs = layer.inputs;
  p->outputs = layer.outputs;
  p->weight_bytes = weight_bytes;
  p->shift = shift;
  p->blocks = CeilDiv(layer.inputs, kBlockInputs);
  p->tiles = CeilDiv(p->blocks, tile_inputs / kBlockInputs);
  p->tile_blocks = CeilDiv(p->blocks, p->tiles);
  // As even as they are, the last may have none left.
  p->tiles = CeilDiv(p->blocks, p->tile_blocks);
  p->couples = CeilDiv(layer.outputs, kPairOutputs);
  TfPofStatus status = kTfPofOutOfMemory;
  if (layer.stored != nullptr) {
    status = TakePairs(*layer.stored, p) ? kTfPofOk : kTfPofInvalidArgument;
  } else if (p->bias.Resize(layer.outputs) &&
             p->stream.Resize(p->StreamBytes())) {
    // An output that is not there has no weights and the first pair.
    status = ForEachUnit(layer, PackUnit, p);
  }
  if (status != kTfPofOk) {
    FreePairs(p);
    return status;
  }
  *packed = p;
  return kTfPofOk;
}

void FreePairs(void* packed) {
  auto* pairs = static_cast<Pairs*>(packed);
  pairs->bias.Free();
  pairs->stream.Free();
  free(pairs);
}

size_t PairsBytes(const void* packed) {
  const auto& p = *static_cast<const Pairs*>(packed);
  return p.bias.bytes() + p.stream.bytes();
}

size_t PairsScratch(const void* packed) {
  const auto& p = *static_cast<const Pairs*>(packed);
  const size_t outputs = CeilDiv(p.outputs, kUnit) * size_t{kUnit};
  return PairTableBytes(p) +
         (p.tiles == 1 ? 0 : outputs * kPanelTokens * sizeof(int32_t));
}

}  // namespace tf_pof
