// The table of kernels: dispatch, tests and benchmarks are driven by it.
#include "buffer.h"
#include "choose.h"
#include "interleave.h"
#include "kernel.h"
#include "scalar.h"
#include "tiles.h"
#if defined(__x86_64__)
#include "kernels_x86.h"
#include "pairs.h"
#include "windows.h"
#elif defined(__aarch64__)
#include "kernels_arm.h"
#endif

namespace tf_pof {
namespace {

// A panel of 768 inputs just fills the 48 KB of an L1 cache.
template <int rows, int columns = 1, bool far = false>
TfPofStatus PackInterleavedBlocks(const Layer& layer, void** packed) {
  return PackInterleaved(layer, rows, columns, 768, far, kPanelFlip, packed);
}

template <int inputs, bool pairs = false>
TfPofStatus PackTilesOf(const Layer& layer, void** packed) {
  return PackTiles(layer, inputs, kPanelFlip, pairs, packed);
}

#if defined(__x86_64__)
// The pairs of a tile's inputs are half of an L1 cache of 48 KB.
template <int weight_bytes>
TfPofStatus PackPairsOf(const Layer& layer, void** packed) {
  return PackPairs(layer, weight_bytes, 256 / weight_bytes, kPanelFlip, packed);
}
#endif

}  // namespace

const Kernel kKernels[] = {
    {"dense_scalar", Isa::kAny, kTfPofRows, PackDenseScalar, FreeDenseScalar,
     DenseScalarBytes, NoScratch, RunDenseScalar, DenseScalarCost, nullptr},
    {"1x1_scalar", Isa::kAny, kTfPofPanels, PackSparseScalar, FreeSparseScalar,
     SparseScalarBytes, NoScratch, RunSparseScalar, SparseScalarCost, nullptr},
#if defined(__x86_64__)
    {"1x1_interleave_avx2", Isa::kAvx2, kTfPofPanels, PackInterleavedBlocks<1>,
     FreeInterleaved, InterleavedBytes, InterleavedScratch, RunInterleavedAvx2,
     InterleavedAvx2Cost<1>, ListInterleaved},
    {"4x1_interleave_avx2", Isa::kAvx2, kTfPofPanels,
     PackInterleavedBlocks<4>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvx2, InterleavedAvx2Cost<4>,
     ListInterleaved},
    {"2:4_pairs_avx2", Isa::kAvx2, kTfPofPanels, PackPairsOf<2>, FreePairs,
     PairsBytes, PairsScratch, RunPairsAvx2, PairsAvx2Cost, ListPairs},
    {"1x1_interleave_avxvnni", Isa::kAvxVnni, kTfPofPanels,
     PackInterleavedBlocks<1>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvxVnni, InterleavedAvxVnniCost<1>,
     ListInterleaved},
    {"4x1_interleave_avxvnni", Isa::kAvxVnni, kTfPofPanels,
     PackInterleavedBlocks<4>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvxVnni, InterleavedAvxVnniCost<4>,
     ListInterleaved},
    {"2:4_pairs_avxvnni", Isa::kAvxVnni, kTfPofPanels, PackPairsOf<1>,
     FreePairs, PairsBytes, PairsScratch, RunPairsAvxVnni, PairsAvxVnniCost,
     ListPairs},
    {"1x1_interleave_avx512vnni", Isa::kAvx512Vnni, kTfPofPanels,
     PackInterleavedBlocks<1>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvx512, InterleavedAvx512Cost<1>,
     ListInterleaved},
    {"2x1_interleave_avx512vnni", Isa::kAvx512Vnni, kTfPofPanels,
     PackInterleavedBlocks<2>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvx512, InterleavedAvx512Cost<2>,
     ListInterleaved},
    {"4x1_interleave_avx512vnni", Isa::kAvx512Vnni, kTfPofPanels,
     PackInterleavedBlocks<4, 1, true>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvx512, InterleavedAvx512Cost<4>,
     ListInterleaved},
    {"1x4_interleave_avx512vnni", Isa::kAvx512Vnni, kTfPofPanels,
     PackInterleavedBlocks<1, 4>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedAvx512, AlignedAvx512Cost,
     ListInterleaved},
    {"1x1_windows_avx512vbmi", Isa::kAvx512Vbmi, kTfPofRows, PackWindows,
     FreeWindows, WindowsBytes, WindowsAvx512Scratch, RunWindowsAvx512,
     WindowsAvx512Cost, ListWindows},
    {"16x4_tiles_avx512vnni", Isa::kAvx512Vnni, kTfPofRows,
     PackTilesOf<4, true>, FreeTiles, TilesBytes, TilesAvx512Scratch,
     RunTilesAvx512, TilesAvx512Cost, ListTiles},
#elif defined(__aarch64__)
    {"1x1_interleave_neon", Isa::kNeon, kTfPofPanels, PackInterleavedBlocks<1>,
     FreeInterleaved, InterleavedBytes, InterleavedScratch, RunInterleavedNeon,
     InterleavedNeonCost<1, 66>, ListInterleaved},
    {"4x1_interleave_neon", Isa::kNeon, kTfPofPanels, PackInterleavedBlocks<4>,
     FreeInterleaved, InterleavedBytes, InterleavedScratch, RunInterleavedNeon,
     InterleavedNeonCost<4, 184>, ListInterleaved},
    {"16x4_tiles_neon", Isa::kNeon, kTfPofRows, PackTilesOf<4>, FreeTiles,
     TilesBytes, TilesNeonScratch, RunTilesNeon, TilesNeonCost, ListTiles},
    {"1x1_interleave_neondot", Isa::kNeonDot, kTfPofPanels,
     PackInterleavedBlocks<1>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedNeonDot, InterleavedNeonCost<1, 25>,
     ListInterleaved},
    {"4x1_interleave_neondot", Isa::kNeonDot, kTfPofPanels,
     PackInterleavedBlocks<4>, FreeInterleaved, InterleavedBytes,
     InterleavedScratch, RunInterleavedNeonDot, InterleavedNeonCost<4, 48>,
     ListInterleaved},
    {"16x4_tiles_neondot", Isa::kNeonDot, kTfPofRows, PackTilesOf<4>, FreeTiles,
     TilesBytes, TilesNeonScratch, RunTilesNeonDot, TilesNeonDotCost,
     ListTiles},
    {"16x8_tiles_i8mm", Isa::kI8mm, kTfPofRows, PackTilesOf<8>, FreeTiles,
     TilesBytes, TilesNeonScratch, RunTilesI8mm, TilesI8mmCost, ListTiles},
#endif
};
const int kNumKernels = sizeof(kKernels) / sizeof(kKernels[0]);

const Kernel* FindKernel(const char* name, Isa isa) {
  for (int i = 0; i < kNumKernels; ++i) {
    const Kernel& kernel = kKernels[i];
    if (kernel.isa <= isa && Supported(kernel.isa) &&
        strcmp(kernel.name, name) == 0) {
      return &kernel;
    }
  }
  return nullptr;
}

void RowsToPanel(Isa isa, const int8_t* rows, size_t stride, int tokens,
                 int channels, uint8_t* panel) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512Vnni) {
    return RowsToPanelAvx512(rows, stride, tokens, channels, panel);
  }
  if (isa >= Isa::kAvx2) {
    return RowsToPanelAvx2(rows, stride, tokens, channels, panel);
  }
#elif defined(__aarch64__)
  if (isa >= Isa::kNeon) {
    return RowsToPanelNeon(rows, stride, tokens, channels, panel);
  }
#endif
  (void)isa;
  RowsToPanelScalar(rows, stride, tokens, channels, panel);
}

void PanelToRows(Isa isa, const uint8_t* panel, int tokens, int channels,
                 int8_t* rows, size_t stride) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512Vnni) {
    return PanelToRowsAvx512(panel, tokens, channels, rows, stride);
  }
  if (isa >= Isa::kAvx2) {
    return PanelToRowsAvx2(panel, tokens, channels, rows, stride);
  }
#elif defined(__aarch64__)
  if (isa >= Isa::kNeon) {
    return PanelToRowsNeon(panel, tokens, channels, rows, stride);
  }
#endif
  (void)isa;
  PanelToRowsScalar(panel, tokens, channels, rows, stride);
}

// The best that this processor has.
static Isa BestIsa() {
  int best = static_cast<int>(kBestIsa);
  while (!Supported(static_cast<Isa>(best))) --best;
  return static_cast<Isa>(best);
}

}  // namespace tf_pof

using tf_pof::kPanelTokens;

int32_t TfPofKernelCount() {
  int32_t count = 0;
  for (int i = 0; i < tf_pof::kNumKernels; ++i) {
    count += tf_pof::Supported(tf_pof::kKernels[i].isa);
  }
  return count;
}

const char* TfPofKernelName(int32_t index) {
  for (int i = 0; i < tf_pof::kNumKernels; ++i) {
    if (!tf_pof::Supported(tf_pof::kKernels[i].isa)) continue;
    if (index-- == 0) return tf_pof::kKernels[i].name;
  }
  return nullptr;
}

size_t TfPofPanelBytes(int32_t tokens, int32_t channels) {
  return static_cast<size_t>(tf_pof::CeilDiv(tokens, kPanelTokens)) *
         kPanelTokens * channels;
}

void TfPofToPanels(const int8_t* rows, int32_t tokens, int32_t channels,
                   int8_t* panels) {
  for (int t = 0; t < tokens; t += kPanelTokens) {
    const size_t start = static_cast<size_t>(t) * channels;
    tf_pof::RowsToPanel(tf_pof::BestIsa(), rows + start, channels,
                        tf_pof::Min(kPanelTokens, tokens - t), channels,
                        reinterpret_cast<uint8_t*>(panels) + start);
  }
}

void TfPofFromPanels(const int8_t* panels, int32_t tokens, int32_t channels,
                     int8_t* rows) {
  for (int t = 0; t < tokens; t += kPanelTokens) {
    const size_t start = static_cast<size_t>(t) * channels;
    tf_pof::PanelToRows(tf_pof::BestIsa(),
                        reinterpret_cast<const uint8_t*>(panels) + start,
                        tf_pof::Min(kPanelTokens, tokens - t), channels,
                        rows + start, channels);
  }
}
