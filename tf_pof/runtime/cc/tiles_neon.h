// The "tiles" kernels on Neon: dense, or in 16x4 or 16x8 blocks. What
// multiplies is a parameter Isa, with
//   static constexpr int kInputs;  // of a tile, 4 or 8
//   static constexpr int kTokens;  // at most, multiplied at once
//   template <int tokens>
//   static void Multiply(const TileGroup& group, const int8_t* x,
//                        int32x4_t sums[tokens][4]);
// which gives the sums of `tokens` tokens, those of 16 outputs in four vectors;
// tokens are 1, 2 or kTokens.
//
// Everything is internal to the file that includes it: see Min in buffer.h.
#ifndef TF_POF_RUNTIME_CC_TILES_NEON_H_
#define TF_POF_RUNTIME_CC_TILES_NEON_H_

#include "outputs_neon.h"
#include "tiles.h"

namespace tf_pof {
namespace {

// Tokens are kept by fours, as vectors of 16 bytes hold them.
constexpr int kTokensTogether = 4;

// 16 outputs.
struct TileGroup {
  const uint32_t* blocks;
  const int8_t* weights;
  uint32_t count;
  bool has_lowest;
  size_t block_bytes;  // of the inputs of a tile, all tokens
};

// `count` bytes of up to four rows; zeros beyond them and for others.
TF_POF_INLINE void LoadRows(const int8_t* rows, size_t stride, int tokens,
                            int count, int8x16_t loaded[4]) {
  for (int t = 0; t < kTokensTogether; ++t) {
    loaded[t] = vdupq_n_s8(0);
    if (t >= tokens) continue;
    if (count >= 16) {
      loaded[t] = vld1q_s8(rows + t * stride);
      continue;
    }
    int8_t bytes[16] = {};
    memcpy(bytes, rows + t * stride, count);
    loaded[t] = vld1q_s8(bytes);
  }
}

// To [blocks][tokens][inputs of a tile].
template <int inputs>
void PrepareInput(const int8_t* rows, int tokens, int channels,
                  size_t block_bytes, int8_t* to) {
  for (int t = 0; t < tokens; t += kTokensTogether) {
    for (int k = 0; k < channels; k += 16) {
      int8x16_t r[4];
      LoadRows(rows + static_cast<size_t>(t) * channels + k, channels,
               tokens - t, channels - k, r);
      int64x2_t w[4];
      for (int i = 0; i < 4; ++i) w[i] = vreinterpretq_s64_s8(r[i]);
      if (inputs == 4) {
        // Each 8 bytes of one row and the next by halves.
        for (int i = 0; i < 4; i += 2) {
          const int32x4_t a = vreinterpretq_s32_s8(r[i]);
          const int32x4_t b = vreinterpretq_s32_s8(r[i + 1]);
          w[i] = vreinterpretq_s64_s32(vzip1q_s32(a, b));
          w[i + 1] = vreinterpretq_s64_s32(vzip2q_s32(a, b));
        }
        int8_t* block = to + k / 4 * block_bytes + t * 4;
        for (int i = 0; i < 2; ++i) {
          vst1q_s8(block + (2 * i) * block_bytes,
                   vreinterpretq_s8_s64(vzip1q_s64(w[i], w[2 + i])));
          vst1q_s8(block + (2 * i + 1) * block_bytes,
                   vreinterpretq_s8_s64(vzip2q_s64(w[i], w[2 + i])));
        }
      } else {
        int8_t* block = to + k / 8 * block_bytes + t * 8;
        for (int i = 0; i < 4; i += 2) {
          vst1q_s8(block + i * 8,
                   vreinterpretq_s8_s64(vzip1q_s64(w[i], w[i + 1])));
          vst1q_s8(block + block_bytes + i * 8,
                   vreinterpretq_s8_s64(vzip2q_s64(w[i], w[i + 1])));
        }
      }
    }
  }
}

// `count` outputs of one token from output `n` of the layer on.
TF_POF_INLINE void StoreOutputs(const int32x4_t sums[4],
                                const Epilogue& epilogue, int n, int count,
                                void* output, size_t at) {
  float32x4_t scales[4];
  if (count == kTileOutputs) {
    for (int v = 0; v < 4; ++v)
      scales[v] = vld1q_f32(epilogue.scales + n + 4 * v);
    StoreSixteen(sums, scales, epilogue, output, at);
    return;
  }
  float known[kTileOutputs] = {};
  memcpy(known, epilogue.scales + n, count * sizeof(float));
  for (int v = 0; v < 4; ++v) scales[v] = vld1q_f32(known + 4 * v);
  int32_t all[kTileOutputs];
  StoreSixteen(sums, scales, epilogue, all, 0);
  const size_t width = epilogue.type == kTfPofInt8 ? 1 : sizeof(int32_t);
  memcpy(static_cast<uint8_t*>(output) + at * width, all, count * width);
}

template <typename Isa, int tokens>
TF_POF_INLINE void RunTokens(const Tiles& p, const TileGroup& group,
                             const Epilogue& epilogue, const Task& task, int n,
                             int end, int first) {
  int32x4_t sums[tokens][4];
  Isa::template Multiply<tokens>(
      group,
      reinterpret_cast<const int8_t*>(task.scratch) + first * Isa::kInputs,
      sums);
  const int count = Min(kTileOutputs, end - n);
  for (int t = 0; t < tokens; ++t) {
    for (int v = 0; v < 4; ++v) {
      sums[t][v] = vaddq_s32(sums[t][v], vld1q_s32(p.bias.data + n + 4 * v));
    }
    if (first + t >= task.tokens) return;
    StoreOutputs(sums[t], epilogue, n, count, task.output,
                 (first + t) * task.stride + n - task.unit_begin * kUnit);
  }
}

template <typename Isa>
void RunTiles(const void* packed, const Epilogue& epilogue, const Task& task) {
  const auto& p = *static_cast<const Tiles*>(packed);
  const size_t block_bytes = static_cast<size_t>(Isa::kInputs) *
                             CeilDiv(task.tokens, kTokensTogether) *
                             kTokensTogether;
  if (!task.prepared) {
    PrepareInput<Isa::kInputs>(static_cast<const int8_t*>(task.input),
                               task.tokens, p.inputs, block_bytes,
                               reinterpret_cast<int8_t*>(task.scratch));
  }
  const int end = Min(task.unit_end * kUnit, p.outputs);
  for (int n = task.unit_begin * kUnit; n < end; n += kTileOutputs) {
    const uint32_t* starts = p.starts.data + n / kTileOutputs;
    const TileGroup group = {p.blocks.data + starts[0],
                             p.weights.data + static_cast<size_t>(starts[0]) *
                                                  kTileOutputs * Isa::kInputs,
                             starts[1] - starts[0], p.has_lowest, block_bytes};
    for (int first = 0; first < task.tokens; first += Isa::kTokens) {
      const int left = task.tokens - first;
      if (left == 1) {
        RunTokens<Isa, 1>(p, group, epilogue, task, n, end, first);
      } else if (left == 2) {
        RunTokens<Isa, 2>(p, group, epilogue, task, n, end, first);
      } else {
        RunTokens<Isa, Isa::kTokens>(p, group, epilogue, task, n, end, first);
      }
    }
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_TILES_NEON_H_
