// What a fully-connected kernel is, and the table of all of them.
//
// A kernel packs a layer's weights into a form of its own and multiplies
// either rows (up to 16 tokens, row-major int8) or one panel (64 tokens) by a
// range of the outputs. fully_connected.cc does the rest: layouts, threads.
#ifndef TF_POF_RUNTIME_CC_KERNEL_H_
#define TF_POF_RUNTIME_CC_KERNEL_H_

#include <stddef.h>
#include <stdint.h>

#include "fully_connected.h"

namespace tf_pof {

inline constexpr int kPanelTokens = 64;
// Kernels reorder the outputs, but only inside units of this many: a unit is
// what one thread does at least.
inline constexpr int kUnit = 256;

// A panel has, for each channel, the bytes of 64 tokens: value ^ kPanelFlip.
// x86 multiplies unsigned by signed bytes, so its panels hold value + 128;
// Arm multiplies signed bytes.
#if defined(__aarch64__)
inline constexpr int kPanelFlip = 0;
#else
inline constexpr int kPanelFlip = 0x80;
#endif

struct StoredArrays;  // stored.h

// The layer to pack. Valid only while packing. Weights are read through
// ForEachUnit; see unit_rows.h.
struct Layer {
  int inputs;
  int outputs;
  const int8_t* weights;  // [outputs, inputs], or null to call read_rows
  TfPofReadRows read_rows;
  void* read_context;
  const int32_t* bias;  // [outputs] or null
  const float* scales;  // [outputs], the epilogue's
  int input_zero_point;
  TfPofThreadPool* pool;
  // Packed before, by the same kernel if nobody lies: to be checked and taken
  // over in the place of weights. Or null.
  const StoredArrays* stored;
};

// What becomes of the accumulators of output n.
struct Epilogue {
  TfPofOutputType type;
  const float* scales;  // [outputs], to the int8 output or to float32
  int32_t zero_point;
  const uint8_t* table;  // [256], of value + 128 to value + 128; or null
  // All scales are below 1: no int32 times its scale leaves the int32s.
  bool bounded;
  bool permutes_bytes;  // x86: whether VBMI may be used
};

struct Task {
  const void* input;  // rows: int8 [tokens, inputs]; panel: [inputs, 64]
  int tokens;         // rows: 1 to 16; panel: 1 to 64, others may be computed
  int unit_begin;
  int unit_end;
  // Where output unit_begin * kUnit of the first token goes. Rows: [tokens,
  // stride] of the output type. Panel: [outputs of the units, 64], bytes as in
  // a panel for int8, else 32-bit values.
  void* output;
  size_t stride;
  uint8_t* scratch;  // scratch_bytes(packed), aligned to a cache line
  // The call before had the same kernel, input and scratch memory: what the
  // kernel made of the input there need not be made again.
  bool prepared;
};

// Plain C, then those of x86 and of Arm, each from the least to the best.
// kAvx512Vbmi is VNNI and VBMI.
enum class Isa {
  kAny,
  kAvx2,
  kAvxVnni,
  kAvx512Vnni,
  kAvx512Vbmi,
  kNeon,
  kNeonDot,
  kI8mm,
};
inline constexpr Isa kBestIsa = Isa::kI8mm;

struct WeightCounts;  // choose.h

// The name says the shape of weights that is stored whole (outputs x inputs)
// and the instructions.
struct Kernel {
  const char* name;
  Isa isa;
  TfPofLayout layout;
  // Packed weights, which the caller then owns.
  TfPofStatus (*pack)(const Layer& layer, void** packed);
  void (*free_packed)(void* packed);
  size_t (*packed_bytes)(const void* packed);
  size_t (*scratch_bytes)(const void* packed);
  void (*run)(const void* packed, const Epilogue& epilogue, const Task& task);
  // Time of a call in cycles, roughly, before packing; see choose.h.
  double (*cost)(const Layer& layer, const WeightCounts& counts, int tokens);
  // Lists the arrays of packed weights; null if `pack` takes none over.
  void (*list)(const void* packed, StoredArrays* arrays);
};

// All kernels that were compiled, the oracle first.
extern const Kernel kKernels[];
extern const int kNumKernels;

// Whether this processor, asked once, has the instructions.
bool Supported(Isa isa);

// The set of that name, or kBestIsa for null and "best"; false if there is
// none on this processor.
bool FindIsa(const char* name, Isa* isa);

// The kernel of that name, or null if this processor has none with
// instructions up to `isa`.
const Kernel* FindKernel(const char* name, Isa isa);

// The cheapest kernel of this processor for the layer, with instructions up to
// `isa`, and how full the windows kernel's steps would be, or 0 if it could not
// be chosen.
TfPofStatus ChooseKernel(const Layer& layer, int tokens, Isa isa,
                         const Kernel** kernel, double* window_fill);

// Between rows and `tokens` of one panel, with instructions up to `isa`, which
// this processor has. What the panel holds for other tokens is neither read nor
// written, so that `panel` may begin with one that is not its first.
void RowsToPanel(Isa isa, const int8_t* rows, size_t stride, int tokens,
                 int channels, uint8_t* panel);
void PanelToRows(Isa isa, const uint8_t* panel, int tokens, int channels,
                 int8_t* rows, size_t stride);

// round(value * scale) + zero_point as int8; half to even, saturating.
int8_t Requantize(int32_t value, float scale, int32_t zero_point);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_KERNEL_H_
