// Reading a layer's weights to pack them, one unit of the outputs at a time.
#ifndef TF_POF_RUNTIME_CC_UNIT_ROWS_H_
#define TF_POF_RUNTIME_CC_UNIT_ROWS_H_

#include "buffer.h"
#include "kernel.h"

namespace tf_pof {

inline constexpr int kMaskBits = 64;

// The weights of outputs [first, end).
struct UnitRows {
  const Layer* layer;
  int unit;
  int first;
  int end;
  int words;  // of a row's mask
  const int8_t* weights;
  const uint64_t* masks;

  const int8_t* row(int n) const {
    return weights + static_cast<size_t>(n - first) * layer->inputs;
  }
  // Bit k % 64 of word k / 64 says whether weight k is not zero.
  const uint64_t* mask(int n) const {
    return masks + static_cast<size_t>(n - first) * words;
  }
  // The bias when the kernel sees inputs with `shift` added to them. `sum` is
  // of the weights and wraps around.
  int32_t CorrectedBias(int n, int shift, uint32_t sum) const;
  int32_t CorrectedBias(int n, int shift) const;
};

// Calls the function for every unit, on all threads of the layer's pool. It
// stops at the first error, which it returns.
using UnitFunction = TfPofStatus (*)(void* context, const UnitRows& rows);
TfPofStatus ForEachUnit(const Layer& layer, UnitFunction function,
                        void* context);

// Packs all units to a Part each and joins these. A Part begins with all bytes
// zero and has
//   bool Pack(const UnitRows& rows, Packed* packed);
//   void Free();
// and there is bool Join(const Part* parts, int units, Packed* packed); false
// means that memory ran out.
template <typename Part, typename Packed>
static TfPofStatus PackUnits(const Layer& layer, Packed* packed) {
  struct Context {
    Packed* packed;
    Buffer<Part> parts;
  };
  const int units = CeilDiv(layer.outputs, kUnit);
  Context context = {packed, {}};
  if (!context.parts.Resize(units)) return kTfPofOutOfMemory;
  TfPofStatus status = ForEachUnit(
      layer,
      [](void* pointer, const UnitRows& rows) {
        auto& c = *static_cast<Context*>(pointer);
        return c.parts.data[rows.unit].Pack(rows, c.packed) ? kTfPofOk
                                                            : kTfPofOutOfMemory;
      },
      &context);
  if (status == kTfPofOk && !Join(context.parts.data, units, packed)) {
    status = kTfPofOutOfMemory;
  }
  for (int i = 0; i < units; ++i) context.parts.data[i].Free();
  context.parts.Free();
  return status;
}

// Ones among the bits. Processors have an instruction for it that plain C may
// not rely on.
static inline int CountOnes(uint64_t bits) {
  bits -= bits >> 1 & 0x5555555555555555;
  bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
  bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F;
  return static_cast<int>(bits * 0x0101010101010101 >> 56);
}

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_UNIT_ROWS_H_
