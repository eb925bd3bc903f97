#include "choose.h"

#include <math.h>

#include "interleave.h"
#include "tiles.h"
#include "unit_rows.h"
#include "window_steps.h"

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

// What is found of each unit.
struct Found {
  bool windows;  // whether to look for them
  Buffer<WeightCounts> units;
  Buffer<WindowSample> samples;
};

TfPofStatus CountUnit(void* context, const UnitRows& rows) {
  auto& found = *static_cast<Found*>(context);
  for (int n = rows.first; n < rows.end; n += kTileOutputs) {
    for (int word = 0; word < rows.words; word += kChunk) {
      CountBlock(rows, n, word, Min(word + kChunk, rows.words),
                 &found.units.data[rows.unit]);
    }
  }
#if defined(__x86_64__)
  if (found.windows) {
    return SampleWindows(rows, &found.samples.data[rows.unit]);
  }
#endif
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

// As PackInterleaved has them, but for 4x1 with few weights, which has one: no
// other kernel comes near it there.
int Tiles(const Layer& layer) {
  return layer.inputs <= 1024 ? 1 : CeilDiv(layer.inputs, 768);
}

// How much longer loads take the more of the L1 cache a tile fills.
double Crowding(const Layer& layer) {
  return Min(0.68 + 0.32 * layer.inputs / 768 / Tiles(layer), 1.04);
}

// Between row-major and panels, both ways.
double ConversionCost(const Layer& layer, int tokens) {
  return Panels(tokens) * (layer.inputs + layer.outputs) * 2.15;
}

// Of the interleave kernels but for their quads.
double InterleavedCost(const Layer& layer, int tokens) {
  return Panels(tokens) * layer.outputs * Tiles(layer) * 13.0 +
         ConversionCost(layer, tokens);
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

// Here and with AVX-VNNI a quad of 4x1 stands to one of 1x1 between what Zen 5
// takes and what llvm-mca says of processors that have nothing better.
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
  // With more rows dot products take longer than loads.
  const double quad = rows == 1   ? 4.35 * Crowding(layer)
                      : rows == 2 ? 5.6
                                  : 8.85;
  return Panels(tokens) * counts.quads[rows / 2] * quad +
         InterleavedCost(layer, tokens);
}

template double InterleavedAvx512Cost<1>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<2>(const Layer&, const WeightCounts&,
                                         int);
template double InterleavedAvx512Cost<4>(const Layer&, const WeightCounts&,
                                         int);

double AlignedAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens) {
  const double quads = counts.aligned * 4.0 * Crowding(layer);
  return Panels(tokens) * (quads + layer.inputs * 1.5) +
         InterleavedCost(layer, tokens);
}

double WindowsAvx512Cost(const Layer& layer, const WeightCounts& counts,
                         int tokens) {
  const double groups = CeilDiv(layer.outputs, kLanes);
  // A step loads its weights whatever the number of tokens.
  const double few = Max(3.5 / tokens, 0.75);
  return (counts.window_steps * few +
          groups * TilesOf(layer.inputs).count * 2.5 + layer.inputs * 0.07) *
         RowsTokens(tokens);
}

double TilesAvx512Cost(const Layer& layer, const WeightCounts& counts,
                       int tokens) {
  const double tile = Max(1.6 / tokens, 0.52);
  return (counts.tiles * tile + layer.outputs * 0.2 + layer.inputs * 0.1) *
         RowsTokens(tokens);
}

TfPofStatus CountWeights(const Layer& layer, Isa isa, WeightCounts* counts) {
  *counts = {};
  Found found = {};
  found.windows = isa >= Isa::kAvx512Vbmi && Supported(Isa::kAvx512Vbmi);
  const int units = CeilDiv(layer.outputs, kUnit);
  const bool stored = found.units.Resize(units) && found.samples.Resize(units);
  const TfPofStatus status =
      stored ? ForEachUnit(layer, CountUnit, &found) : kTfPofOutOfMemory;
  for (size_t i = 0; i < found.units.size; ++i) {
    const WeightCounts& unit = found.units.data[i];
    counts->nonzeros += unit.nonzeros;
    for (int j = 0; j < 3; ++j) counts->quads[j] += unit.quads[j];
    counts->tiles += unit.tiles;
    counts->wide_tiles += unit.wide_tiles;
    counts->aligned += unit.aligned;
    counts->crowded += unit.crowded;
  }
#if defined(__x86_64__)
  if (status == kTfPofOk && found.windows) {
    counts->window_steps = EstimateWindowSteps(layer, found.samples.data);
  }
#endif
  found.units.Free();
  found.samples.Free();
  return status;
}

TfPofStatus ChooseKernel(const Layer& layer, int tokens, Isa isa,
                         const Kernel** kernel, double* window_fill) {
  WeightCounts counts;
  const TfPofStatus status = CountWeights(layer, isa, &counts);
  if (status != kTfPofOk) return status;
  constexpr int kStep = kLanes * kPicks;
  *window_fill = counts.window_steps > 0
                     ? counts.nonzeros / kStep / counts.window_steps
                     : 0;
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
