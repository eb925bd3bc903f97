// The "interleave" kernels on Neon: unstructured and 4x1. What multiplies is a
// parameter Isa, with
//   static Quad LoadQuad(const int8_t* panel, uint64_t indices);
//   static void Dot(Sums* sums, const Quad& quad, const uint32_t* weights);
//   static void DotFour(Sums sums[4], const Quad& quad,
//                       const uint32_t weights[4]);
//
// Panels hold signed bytes here. Unstructured outputs take 32 tokens at a
// time, blocks of 4 outputs 16, which fill the registers.
//
// Everything is internal to the file that includes it: see Min in buffer.h.
#ifndef TF_POF_RUNTIME_CC_INTERLEAVE_NEON_H_
#define TF_POF_RUNTIME_CC_INTERLEAVE_NEON_H_

#include "interleave.h"
#include "outputs_neon.h"

namespace tf_pof {
namespace {

// 16 tokens: vector v has tokens 4 v to 4 v + 3.
struct Sums {
  int32x4_t v[4];
};

struct Quad {
  int8x16_t v[4];
};

TF_POF_INLINE int8x16_t LoadInput(const int8_t* panel, uint64_t indices,
                                  int i) {
  return vld1q_s8(panel + static_cast<uint16_t>(indices >> (16 * i)) * 8);
}

// Stores 16 tokens of output n to `row`, that of the task's panel. Sums come in
// registers: by reference clang would keep them in memory all the time.
void Finish(Sums sums, const Epilogue& epilogue, int n, size_t row, int token,
            void* output) {
  const float32x4_t scale = vdupq_n_f32(epilogue.scales[n]);
  const float32x4_t scales[4] = {scale, scale, scale, scale};
  StoreSixteen(sums.v, scales, epilogue, output, row * kPanelTokens + token);
}

// One unit in one tile, for some tokens of a panel.
struct Part {
  const Interleaved* packed;
  const Epilogue* epilogue;
  const int8_t* panel;  // of the tile, at the first token
  int tile;
  int unit;
  int token;
  size_t row;      // of the unit's first output in the task
  void* output;    // the task's
  int32_t* spill;  // [outputs of the task, 64], sums between tiles
};

TF_POF_INLINE int32_t* Spill(const Part& p, int output_in_unit, int token) {
  return p.spill + (p.row + output_in_unit) * kPanelTokens + token;
}

TF_POF_INLINE Sums Begin(const Part& p, int output_in_unit, int token) {
  Sums sums;
  for (int v = 0; v < 4; ++v) {
    sums.v[v] =
        p.tile == 0
            ? vdupq_n_s32(p.packed->bias.data[p.unit * kUnit + output_in_unit])
            : vld1q_s32(Spill(p, output_in_unit, token) + 4 * v);
  }
  return sums;
}

TF_POF_INLINE void End(const Part& p, int output_in_unit, int token,
                       const Sums& sums) {
  if (p.tile == p.packed->tiles - 1) {
    Finish(sums, *p.epilogue, p.unit * kUnit + output_in_unit,
           p.row + output_in_unit, token, p.output);
    return;
  }
  for (int v = 0; v < 4; ++v) {
    vst1q_s32(Spill(p, output_in_unit, token) + 4 * v, sums.v[v]);
  }
}

// Half of the outputs' pairs, 32 tokens.
template <typename Isa, int i>
TF_POF_INLINE void RunOutput(const Part& part, int output_in_unit,
                             const PairQuad* quad, const PairQuad* end) {
  Sums low = Begin(part, output_in_unit, part.token);
  Sums high = Begin(part, output_in_unit, part.token + 16);
  for (; quad != end; ++quad) {
    Isa::Dot(&low, Isa::LoadQuad(part.panel, quad->indices[i]),
             &quad->weights[i]);
    Isa::Dot(&high, Isa::LoadQuad(part.panel + 16, quad->indices[i]),
             &quad->weights[i]);
  }
  End(part, output_in_unit, part.token, low);
  End(part, output_in_unit, part.token + 16, high);
}

template <typename Isa>
void RunPairs(const Part& part, const InterleaveGroup* group,
              const InterleaveGroup* groups_end, const uint8_t* stream) {
  auto* quad = reinterpret_cast<const PairQuad*>(stream);
  for (; group != groups_end; ++group) {
    const PairQuad* end = quad + group->quads;
    RunOutput<Isa, 0>(part, group->first, quad, end);
    if (group->second != kNoOutput) {
      RunOutput<Isa, 1>(part, group->second, quad, end);
    }
    quad = end;
  }
}

template <typename Isa>
void RunBlocks(const Part& part, const InterleaveGroup* group,
               const InterleaveGroup* groups_end, const uint8_t* stream) {
  auto* quad = reinterpret_cast<const BlockQuad<4>*>(stream);
  const int outputs = part.packed->outputs - part.unit * kUnit;
  for (; group != groups_end; ++group) {
    // A block beyond the last output repeats it.
    int output[4];
    Sums sums[4];
    for (int r = 0; r < 4; ++r) {
      output[r] = Min(group->first + r, outputs - 1);
      sums[r] = Begin(part, output[r], part.token);
    }
    for (const BlockQuad<4>* end = quad + group->quads; quad != end; ++quad) {
      const Quad inputs = Isa::LoadQuad(part.panel, quad->indices);
      Isa::DotFour(sums, inputs, quad->weights);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      if (group->first + r < outputs) {
        End(part, output[r], part.token, sums[r]);
      }
    }
  }
}

template <typename Isa>
void RunInterleaved(const void* packed, const Epilogue& epilogue,
                    const Task& task) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  const int tokens = p.rows == 1 ? 32 : 16;
  for (int token = 0; token < task.tokens; token += tokens) {
    for (int tile = 0; tile < p.tiles; ++tile) {
      const int8_t* panel =
          static_cast<const int8_t*>(task.input) + token +
          static_cast<size_t>(tile) * p.tile_inputs * kPanelTokens;
      for (int unit = task.unit_begin; unit < task.unit_end; ++unit) {
        const size_t at = static_cast<size_t>(tile) * p.units + unit;
        const Part part = {&p,
                           &epilogue,
                           panel,
                           tile,
                           unit,
                           token,
                           static_cast<size_t>(unit - task.unit_begin) * kUnit,
                           task.output,
                           reinterpret_cast<int32_t*>(task.scratch)};
        const InterleaveGroup* groups = p.groups.data;
        (p.rows == 1 ? RunPairs<Isa>
                     : RunBlocks<Isa>)(part, groups + p.first_group.data[at],
                                       groups + p.first_group.data[at + 1],
                                       p.stream.data + p.first_byte.data[at]);
      }
    }
  }
}

}  // namespace
}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_INTERLEAVE_NEON_H_
