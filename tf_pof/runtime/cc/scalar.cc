// Plain C kernels: the oracle of all others, and what runs everywhere.
#include "scalar.h"

#include "unit_rows.h"

namespace tf_pof {
namespace {

// The layer as it is.
struct Dense {
  int inputs;
  int outputs;
  int input_zero_point;
  Buffer<int8_t> weights;
  Buffer<int32_t> bias;
};

// Nonzeros by output.
struct Sparse {
  int inputs;
  int outputs;
  Buffer<int32_t> bias;     // corrected
  Buffer<uint32_t> starts;  // [outputs + 1]
  Buffer<int32_t> inputs_of;
  Buffer<int8_t> weights;
};

TfPofStatus CopyUnit(void* context, const UnitRows& rows) {
  auto& dense = *static_cast<Dense*>(context);
  const size_t inputs = dense.inputs;
  memcpy(dense.weights.data + rows.first * inputs, rows.weights,
         (rows.end - rows.first) * inputs);
  return kTfPofOk;
}

// The nonzeros of a unit.
struct SparsePart {
  Buffer<int32_t> inputs_of;
  Buffer<int8_t> weights;

  // `starts` becomes the counts, shifted by one.
  bool Pack(const UnitRows& rows, Sparse* packed) {
    for (int n = rows.first; n < rows.end; ++n) {
      packed->bias.data[n] = rows.CorrectedBias(n, kPanelFlip);
      const size_t before = weights.size;
      for (int word = 0; word < rows.words; ++word) {
        for (uint64_t bits = rows.mask(n)[word]; bits != 0; bits &= bits - 1) {
          const int k = word * kMaskBits + __builtin_ctzll(bits);
          if (!inputs_of.Append(k) || !weights.Append(rows.row(n)[k])) {
            return false;
          }
        }
      }
      packed->starts.data[n + 1] = static_cast<uint32_t>(weights.size - before);
    }
    return true;
  }

  void Free() {
    inputs_of.Free();
    weights.Free();
  }
};

bool Join(const SparsePart* parts, int units, Sparse* packed) {
  for (int n = 0; n < packed->outputs; ++n) {
    packed->starts.data[n + 1] += packed->starts.data[n];
  }
  const size_t count = packed->starts.data[packed->outputs];
  if (!packed->inputs_of.Resize(count) || !packed->weights.Resize(count)) {
    return false;
  }
  for (int unit = 0; unit < units; ++unit) {
    const size_t at = packed->starts.data[unit * kUnit];
    parts[unit].inputs_of.CopyTo(packed->inputs_of.data + at);
    parts[unit].weights.CopyTo(packed->weights.data + at);
  }
  return true;
}

void StoreOne(int32_t sum, const Epilogue& epilogue, int n, void* to,
              size_t at) {
  if (epilogue.type == kTfPofInt32) {
    static_cast<int32_t*>(to)[at] = sum;
  } else if (epilogue.type == kTfPofFloat32) {
    static_cast<float*>(to)[at] = static_cast<float>(sum) * epilogue.scales[n];
  } else {
    int8_t value = Requantize(sum, epilogue.scales[n], epilogue.zero_point);
    if (epilogue.table != nullptr) {
      value = static_cast<int8_t>(epilogue.table[value + 128] - 128);
    }
    static_cast<int8_t*>(to)[at] = value;
  }
}

}  // namespace

int8_t Requantize(int32_t value, float scale, int32_t zero_point) {
  float scaled = static_cast<float>(value) * scale;
  // Beyond this everything saturates, whatever the zero point.
  scaled = Max(Min(scaled, 512.0f), -512.0f);
  // Adding and subtracting 1.5 * 2^23 rounds to an integer, half to even.
  const float rounded = scaled + 12582912.0f;
  const int result = static_cast<int>(rounded - 12582912.0f) + zero_point;
  return static_cast<int8_t>(Max(Min(result, 127), -128));
}

void FreeDenseScalar(void* packed) {
  auto* dense = static_cast<Dense*>(packed);
  dense->weights.Free();
  dense->bias.Free();
  free(dense);
}

TfPofStatus PackDenseScalar(const Layer& layer, void** packed) {
  auto* dense = static_cast<Dense*>(calloc(1, sizeof(Dense)));
  if (dense == nullptr) return kTfPofOutOfMemory;
  dense->inputs = layer.inputs;
  dense->outputs = layer.outputs;
  dense->input_zero_point = layer.input_zero_point;
  TfPofStatus status = kTfPofOutOfMemory;
  if (dense->weights.Resize(static_cast<size_t>(layer.inputs) *
                            layer.outputs) &&
      dense->bias.Resize(layer.outputs)) {
    status = ForEachUnit(layer, CopyUnit, dense);
  }
  if (status != kTfPofOk) {
    FreeDenseScalar(dense);
    return status;
  }
  if (layer.bias != nullptr) {
    memcpy(dense->bias.data, layer.bias, dense->bias.bytes());
  }
  *packed = dense;
  return kTfPofOk;
}

size_t DenseScalarBytes(const void* packed) {
  const auto& dense = *static_cast<const Dense*>(packed);
  return dense.weights.bytes() + dense.bias.bytes();
}

void RunDenseScalar(const void* packed, const Epilogue& epilogue,
                    const Task& task) {
  const auto& dense = *static_cast<const Dense*>(packed);
  const int first = task.unit_begin * kUnit;
  const int end = Min(task.unit_end * kUnit, dense.outputs);
  for (int m = 0; m < task.tokens; ++m) {
    const int8_t* x = static_cast<const int8_t*>(task.input) +
                      static_cast<size_t>(m) * dense.inputs;
    for (int n = first; n < end; ++n) {
      const int8_t* w =
          dense.weights.data + static_cast<size_t>(n) * dense.inputs;
      // Unsigned, because overflow wraps around.
      uint32_t sum = static_cast<uint32_t>(dense.bias.data[n]);
      for (int k = 0; k < dense.inputs; ++k) {
        sum += static_cast<uint32_t>(w[k] * (x[k] - dense.input_zero_point));
      }
      StoreOne(static_cast<int32_t>(sum), epilogue, n, task.output,
               m * task.stride + n - first);
    }
  }
}

void FreeSparseScalar(void* packed) {
  auto* sparse = static_cast<Sparse*>(packed);
  sparse->bias.Free();
  sparse->starts.Free();
  sparse->inputs_of.Free();
  sparse->weights.Free();
  free(sparse);
}

TfPofStatus PackSparseScalar(const Layer& layer, void** packed) {
  auto* sparse = static_cast<Sparse*>(calloc(1, sizeof(Sparse)));
  if (sparse == nullptr) return kTfPofOutOfMemory;
  sparse->inputs = layer.inputs;
  sparse->outputs = layer.outputs;
  TfPofStatus status = kTfPofOutOfMemory;
  if (sparse->bias.Resize(layer.outputs) &&
      sparse->starts.Resize(layer.outputs + 1)) {
    status = PackUnits<SparsePart>(layer, sparse);
  }
  if (status != kTfPofOk) {
    FreeSparseScalar(sparse);
    return status;
  }
  *packed = sparse;
  return kTfPofOk;
}

size_t SparseScalarBytes(const void* packed) {
  const auto& sparse = *static_cast<const Sparse*>(packed);
  return sparse.bias.bytes() + sparse.starts.bytes() +
         sparse.inputs_of.bytes() + sparse.weights.bytes();
}

void RunSparseScalar(const void* packed, const Epilogue& epilogue,
                     const Task& task) {
  const auto& sparse = *static_cast<const Sparse*>(packed);
  const int first = task.unit_begin * kUnit;
  const int end = Min(task.unit_end * kUnit, sparse.outputs);
  const auto* panel = static_cast<const uint8_t*>(task.input);
  for (int n = first; n < end; ++n) {
    // Products fit 16 bits, so compilers vectorize the loop over tokens.
    uint32_t sums[kPanelTokens];
    for (uint32_t& sum : sums) sum = static_cast<uint32_t>(sparse.bias.data[n]);
    for (uint32_t i = sparse.starts.data[n]; i < sparse.starts.data[n + 1];
         ++i) {
      const int16_t w = sparse.weights.data[i];
      const uint8_t* x =
          panel + static_cast<size_t>(sparse.inputs_of.data[i]) * kPanelTokens;
      for (int t = 0; t < task.tokens; ++t) {
        const int value = kPanelFlip ? x[t] : static_cast<int8_t>(x[t]);
        sums[t] += static_cast<uint32_t>(static_cast<int32_t>(w * value));
      }
    }
    const size_t row = static_cast<size_t>(n - first) * kPanelTokens;
    for (int t = 0; t < task.tokens; ++t) {
      StoreOne(static_cast<int32_t>(sums[t]), epilogue, n, task.output,
               row + t);
    }
    if (epilogue.type == kTfPofInt8) {
      auto* bytes = static_cast<uint8_t*>(task.output) + row;
      for (int t = 0; t < task.tokens; ++t) bytes[t] ^= kPanelFlip;
    }
  }
}

size_t NoScratch(const void*) { return 0; }

// Transposes 8 x 8 bytes, a row in each word, the first byte lowest. Follows
// Hacker's Delight, 7-3: swaps blocks of 1, 2 and 4 across the diagonal.
static inline void Transpose8(uint64_t rows[8]) {
  constexpr uint64_t kLow[] = {0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF,
                               0x00000000FFFFFFFF};
  for (int level = 0; level < 3; ++level) {
    const int distance = 1 << level;
    for (int i = 0; i < 8; ++i) {
      if ((i & distance) != 0) continue;
      const uint64_t swap =
          ((rows[i] >> (8 * distance)) ^ rows[i + distance]) & kLow[level];
      rows[i] ^= swap << (8 * distance);
      rows[i + distance] ^= swap;
    }
  }
}

// Transposes `rows` x `columns` bytes, flipping them on the way.
static void TransposeScalar(const uint8_t* from, size_t from_stride, int rows,
                            int columns, uint8_t* to, size_t to_stride) {
  constexpr uint64_t kFlip = 0x0101010101010101u * kPanelFlip;
  for (int row = 0; row < rows; row += 8) {
    const int height = Min(8, rows - row);
    for (int column = 0; column < columns; column += 8) {
      const int width = Min(8, columns - column);
      uint64_t block[8] = {};
      for (int i = 0; i < height; ++i) {
        memcpy(&block[i], from + (row + i) * from_stride + column, width);
      }
      Transpose8(block);
      for (int i = 0; i < width; ++i) {
        block[i] ^= kFlip;
        memcpy(to + (column + i) * to_stride + row, &block[i], height);
      }
    }
  }
}

void RowsToPanelScalar(const int8_t* rows, size_t stride, int tokens,
                       int channels, uint8_t* panel) {
  TransposeScalar(reinterpret_cast<const uint8_t*>(rows), stride, tokens,
                  channels, panel, kPanelTokens);
}

void PanelToRowsScalar(const uint8_t* panel, int tokens, int channels,
                       int8_t* rows, size_t stride) {
  TransposeScalar(panel, kPanelTokens, channels, tokens,
                  reinterpret_cast<uint8_t*>(rows), stride);
}

}  // namespace tf_pof
