#include "choose.h"

#include <math.h>

#include "interleave.h"
#include "tiles.h"
#include "unit_rows.h"

namespace tf_pof {
namespace {

// Words of a tile of the interleave kernels, roughly.
constexpr int kChunk = 1024 / kMaskBits;

// Inputs' groups of four with a bit among 64.
int CountFours(uint64_t bits) {
  bits |= bits >> 2;
  bits |= bits >> 1;
  return CountOnes(bits & 0x1111111111111111);
}

// Of four with three bits or four.
int CountCrowded(uint64_t bits) {
  const uint64_t both = bits & bits >> 1;
  const uint64_t any = bits | bits >> 1;
  return CountOnes(((both & any >> 2) | (any & both >> 2)) &
                   0x1111111111111111);
}

// Of eight.
int CountEights(uint64_t bits) {
  bits |= bits >> 4;
  bits |= bits >> 2;
  bits |= bits >> 1;
  return CountOnes(bits & 0x0101010101010101);
}

// Words [begin, end) of 16 outputs at most.
void CountBlock(const UnitRows& rows, int first, int begin, int end,
                WeightCounts* counts) {
  // Which inputs any output of the current block needs, by the block's size.
  constexpr int kRows[] = {1, 2, 4, kTileOutputs};
  uint64_t any[4][kChunk] = {};
  const int last = Min(first + kTileOutputs, rows.end) - 1;
  for (int n = first; n <= last; ++n) {
    const uint64_t* mask = rows.mask(n);
    for (int word = begin; word < end; ++word) {
      counts->aligned += CountFours(mask[word]);
      counts->crowded += CountCrowded(mask[word]);
    }
    for (int i = 0; i < 4; ++i) {
      int found = 0;
      const bool ends = (n - first + 1) % kRows[i] == 0 || n == last;
      for (int word = begin; word < end; ++word) {
        uint64_t& bits = any[i][word - begin];
        bits |= mask[word];
        if (!ends || kRows[i] == kTileOutputs) continue;
        found += CountOnes(bits);
        bits = 0;
      }
      if (i == 0) counts->nonzeros += found;
      if (i < 3) counts->quads[i] += Quads(found);
    }
  }
  for (int word = begin; word < end; ++word) {
    counts->tiles += CountFours(any[3][word - begin]);
    counts->wide_tiles += CountEights(any[3][word - begin]);
  }
}

TfPofStatus CountUnit(void* context, const UnitRows& rows) {
  WeightCounts& counts = static_cast<WeightCounts*>(context)[rows.unit];
  for (int n = rows.first; n < rows.end; n += kTileOutputs) {
    for (int word = 0; word < rows.words; word += kChunk) {
      CountBlock(rows, n, word, Min(word + kChunk, rows.words), &counts);
    }
  }
  return kTfPofOk;
}

double Panels(int tokens) { return CeilDiv(tokens, kPanelTokens); }

// Of 32 tokens, which the 256-bit kernels on panels compute.
double HalfPanels(int tokens) { return CeilDiv(tokens, 32) / 2.0; }

// Tokens that a rows kernel computes in vain are cheaper than real ones only
// down to a point: its vectors have 16, 8, 4, 2 or 1.
double RowsTokens(int tokens) {
  const int rest = tokens % 16;
  int computed = 16;
  while (rest > 0 && computed / 2 >= rest) computed /= 2;
  return tokens - rest + (rest > 0 ? computed : 0);
}

// Between row-major and panels, both ways.
double ConversionCost(const Layer& layer, int tokens) {
  return Panels(tokens) * (layer.inputs + layer.outputs) * 2.7;
}

// Of the pairs kernels, at `step` cycles for 32 tokens of eight inputs; they
// cannot take more than 2:4.
double PairsCost(const Layer& layer, const WeightCounts& counts, int tokens,
                 double step) {
  if (counts.crowded > 0) return HUGE_VAL;
  const double steps = CeilDiv(layer.inputs, 8) * (layer.outputs + 6.0);
  return HalfPanels(tokens) * (steps * 2 * step + layer.outputs * 40.0);
}

}  // namespace

double DenseScalarCost(const Layer& layer, const WeightCounts&, int tokens) {
  return 0.5 * layer.inputs * layer.outputs * tokens;
}

double SparseScalarCost(const Layer& layer, const WeightCounts& counts,
                        int tokens) {
  return counts.nonzeros * Max(0.6 * tokens, 2.0) +
         layer.outputs * 3.0 * tokens;
}

template <int rows>
double InterleavedAvx2Cost(const Layer& layer, const WeightCounts& counts,
                           int tokens) {
  return HalfPanels(tokens) * (counts.quads[rows / 2] * (rows == 1 ? 20 : 47) +
                               layer.outputs * 40.0);
}

template double InterleavedAvx2Cost<1>(const Layer&, const WeightCounts&, int);
template double InterleavedAvx2Cost<4>(const Layer&, const WeightCounts&, int);

template <int rows>
double InterleavedAvxVnniCost(const Layer& layer, const WeightCounts& counts,
                              int tokens) {
  return HalfPanels(tokens) * (counts.quads[rows / 2] * (rows == 1 ? 8.5 : 20) +
                               layer.outputs * 40.0);
}

template double InterleavedAvxVnniCost<1>(const Layer&, const WeightCounts&,
                                          int);
template double InterleavedAvxVnniCost<4>(const Layer&, const WeightCounts&,
                                          int);

double PairsAvx2Cost(const Layer& layer, const WeightCounts& counts,
                     int tokens) {
  return PairsCost(layer, counts, tokens, 6);
}

double PairsAvxVnniCost(const Layer& layer, const WeightCounts& counts,
                        int tokens) {
  return PairsCost(layer, counts, tokens, 3);
}

template <int rows>
double InterleavedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                             int tokens) {
  const double quads = counts.quads[rows / 2];
  constexpr double kQuad = rows == 1 ? 4.35 : rows == 2 ? 5.6 : 8.85;
  const double outputs = layer.outputs * 8.0;
  return Panels(tokens) * (quads * kQuad + outputs) +
         ConversionCost(layer, tokens);
}

template double InterleavedAvx512Cost<1>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<2>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<4>(const Layer&, const WeightCounts&,
                                         int);

double AlignedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens) {
  return Panels(tokens) * (counts.aligned * 3.95 + layer.inputs * 1.5 +
                           layer.outputs * 8.0) +
         ConversionCost(layer, tokens);
}

double WindowsAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens) {
  // Packing would take too long: how full steps get is known from the share
  // of nonzeros, if they are spread evenly.
  constexpr double kFill[][2] = {{0.0, 0.0},   {0.05, 0.53}, {0.1, 0.86},
                                 {0.15, 0.93}, {0.2, 0.96},  {1.0, 1.0}};
  const double nonzeros = counts.nonzeros;
  double density = nonzeros / layer.inputs / layer.outputs;
  // Where nonzeros come in blocks of 1 x 4, outputs differ more: what fewer
  // would give was fitted to it.
  const double alone = (1 - density) * (1 - density);
  const double spread =
      layer.inputs / 4.0 * layer.outputs * (1 - alone * alone);
  if (counts.aligned > 0)
    density /= Max(sqrt(sqrt(spread / counts.aligned)), 1.0);
  int i = 1;
  while (density > kFill[i][0]) ++i;
  const double slope =
      (kFill[i][1] - kFill[i - 1][1]) / (kFill[i][0] - kFill[i - 1][0]);
  const double fill = kFill[i - 1][1] + (density - kFill[i - 1][0]) * slope;
  const double steps = nonzeros == 0 ? 0 : nonzeros / fill / 64;
  const double groups = CeilDiv(layer.outputs, 16);
  // A step loads its weights whatever the number of tokens.
  const double few = Max(3.5 / tokens, 0.82);
  return (steps * few + groups * 2.2 + layer.inputs * 0.08) *
         RowsTokens(tokens);
}

double TilesAvx512Cost(const Layer& layer, const WeightCounts& counts,
                       int tokens) {
  const double tile = tokens == 1 ? 1.1 : Max(1.6 / tokens, 0.52);
  return (counts.tiles * tile + layer.outputs * 0.2 + layer.inputs * 0.1) *
         RowsTokens(tokens);
}

TfPofStatus CountWeights(const Layer& layer, WeightCounts* counts) {
  *counts = {};
  Buffer<WeightCounts> units = {};
  if (!units.Resize(CeilDiv(layer.outputs, kUnit))) return kTfPofOutOfMemory;
  const TfPofStatus status = ForEachUnit(layer, CountUnit, units.data);
  for (size_t i = 0; i < units.size; ++i) {
    const WeightCounts& unit = units.data[i];
    counts->nonzeros += unit.nonzeros;
    for (int j = 0; j < 3; ++j) counts->quads[j] += unit.quads[j];
    counts->tiles += unit.tiles;
    counts->wide_tiles += unit.wide_tiles;
    counts->aligned += unit.aligned;
    counts->crowded += unit.crowded;
  }
  units.Free();
  return status;
}

TfPofStatus ChooseKernel(const Layer& layer, int tokens, Isa isa,
                         const Kernel** kernel) {
  WeightCounts counts;
  const TfPofStatus status = CountWeights(layer, &counts);
  if (status != kTfPofOk) return status;
  double least = 0;
  *kernel = nullptr;
  for (int i = 0; i < kNumKernels; ++i) {
    const Kernel& candidate = kKernels[i];
    if (candidate.isa > isa || !Supported(candidate.isa)) continue;
    const double cost = candidate.cost(layer, counts, tokens);
    if (*kernel == nullptr || cost < least) {
      *kernel = &candidate;
      least = cost;
    }
  }
  return kTfPofOk;
}

}  // namespace tf_pof
