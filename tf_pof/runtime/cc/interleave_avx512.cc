// The "interleave" kernels on AVX512-VNNI: unstructured, 2x1, 4x1 and 1x4.
//
// A quad of one output is 4 loads, 8 unpacks and 4 dot products for 256
// multiplications: bound by the four vector pipes at 3 cycles on Zen 5. With
// 2x1 and 4x1 blocks the unpacks are shared, and 4x1 is bound by the dot
// products themselves. With 1x4 blocks loads bound it: 5 for 4 dot products.
#include "buffer.h"
#include "interleave_blocks_avx512.h"
#include "interleave_pairs_avx512.h"
#include "kernels_x86.h"

namespace tf_pof {
namespace {

// 64 sums of 32 bits, or as floats, in the order of the tokens.
__attribute__((noinline, cold)) void FinishWide(__m512i a, __m512i b, __m512i c,
                                                __m512i d,
                                                const Epilogue& epilogue, int n,
                                                int32_t* to) {
  const __m512 scale = _mm512_set1_ps(epilogue.scales[n]);
  const __m512i sums[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    __m512i value = sums[i];
    if (epilogue.type == kTfPofFloat32) {
      value =
          _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(value), scale));
    }
    alignas(64) int32_t lanes[16];
    _mm512_store_si512(lanes, value);
    for (int j = 0; j < 16; ++j) to[j / 4 * 16 + 4 * i + j % 4] = lanes[j];
  }
}

// The finished sums of output `n`, to row `row` of the task's panel.
TF_POF_INLINE void Finish(const __m512i sums[4], const Epilogue& epilogue,
                          int n, size_t row, void* output) {
  if (__builtin_expect(epilogue.type != kTfPofInt8, 0)) {
    FinishWide(sums[0], sums[1], sums[2], sums[3], epilogue, n,
               static_cast<int32_t*>(output) + row * kPanelTokens);
    return;
  }
  const __m512 scale = _mm512_set1_ps(epilogue.scales[n]);
  const __m512 scales[4] = {scale, scale, scale, scale};
  __m512i values[4];
  Scale(epilogue, sums, scales, values);
  _mm512_store_si512(static_cast<uint8_t*>(output) + row * kPanelTokens,
                     Activate(epilogue, Narrow(values, epilogue)));
}

// One unit in one tile of the inputs.
struct Part {
  const Interleaved* packed;
  const Epilogue* epilogue;
  const uint8_t* panel;  // of the tile
  const InterleaveGroup* groups;
  const InterleaveGroup* groups_end;
  const uint8_t* stream;
  int unit;
  bool first_tile;
  bool last_tile;
  size_t row;      // of the unit's first output in the task
  void* output;    // the task's
  int32_t* spill;  // [outputs of the task, 64], sums between tiles
};

TF_POF_INLINE void Begin(const Part& p, int output_in_unit, __m512i sums[4]) {
  if (p.first_tile) {
    Fill(sums, p.packed->bias.data[p.unit * kUnit + output_in_unit]);
    return;
  }
  const int32_t* from = p.spill + (p.row + output_in_unit) * kPanelTokens;
  for (int i = 0; i < 4; ++i) sums[i] = _mm512_load_si512(from + 16 * i);
}

TF_POF_INLINE void End(const Part& p, int output_in_unit,
                       const __m512i sums[4]) {
  if (p.last_tile) {
    Finish(sums, *p.epilogue, p.unit * kUnit + output_in_unit,
           p.row + output_in_unit, p.output);
    return;
  }
  int32_t* to = p.spill + (p.row + output_in_unit) * kPanelTokens;
  for (int i = 0; i < 4; ++i) _mm512_store_si512(to + 16 * i, sums[i]);
}

template <int rows>
TF_POF_INLINE void DotBlock(const uint8_t* panel, const BlockQuad<rows>* quad,
                            __m512i sums[rows][4]) {
  __m512i inputs[4];
  LoadQuad(panel, quad->indices, inputs);
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) Dot(sums[r], inputs, &quad->weights[r]);
}

// The loops below take two quads at a time not least because half the number
// of rounds is easier for the processor to predict.
__attribute__((noinline)) void RunPairs(const Part& part) {
  auto* quad = reinterpret_cast<const PairQuad*>(part.stream);
  const uint8_t* panel = part.panel;
  for (const InterleaveGroup* g = part.groups; g != part.groups_end; ++g) {
    __m512i a[4], b[4];
    const bool two = g->second != kNoOutput;
    Begin(part, g->first, a);
    if (two) {
      Begin(part, g->second, b);
    } else {
      Fill(b, 0);
    }
    Prefetch(reinterpret_cast<const uint8_t*>(quad),
             g->quads * sizeof(PairQuad));
    const PairQuad* end = quad + g->quads;
    if (g->quads % 2 != 0) DotPair(panel, quad++, a, b);
    quad = DotPairs(panel, quad, end, a, b);
    End(part, g->first, a);
    if (two) End(part, g->second, b);
  }
}

template <int rows>
__attribute__((noinline)) void RunBlocks(const Part& part) {
  auto* quad = reinterpret_cast<const BlockQuad<rows>*>(part.stream);
  const uint8_t* panel = part.panel;
  const int outputs = part.packed->outputs - part.unit * kUnit;
  for (const InterleaveGroup* g = part.groups; g != part.groups_end; ++g) {
    __m512i sums[rows][4];
    const int used = outputs - g->first < rows ? outputs - g->first : rows;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      if (r < used) {
        Begin(part, g->first + r, sums[r]);
      } else {
        Fill(sums[r], 0);
      }
    }
    Prefetch(reinterpret_cast<const uint8_t*>(quad),
             g->quads * sizeof(BlockQuad<rows>));
    const BlockQuad<rows>* end = quad + g->quads;
    if (g->quads % 2 != 0) DotBlock<rows>(panel, quad++, sums);
    for (; quad != end; quad += 2) {
      DotBlock<rows>(panel, quad, sums);
      DotBlock<rows>(panel, quad + 1, sums);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      if (r < used) End(part, g->first + r, sums[r]);
    }
  }
}

// Whether nothing but bytes of these outputs is wanted. With a table of an
// activation looking up would take the time that is saved.
bool ToInt8(const Part& p, UnitToInt8* unit) {
  const Epilogue& epilogue = *p.epilogue;
  const int start = p.unit * kUnit;
  *unit = {p.panel,
           p.groups_end,
           p.packed->bias.data + start,
           epilogue.scales + start,
           static_cast<uint8_t*>(p.output) + p.row * kPanelTokens,
           PanelZeroPoint(epilogue)};
  return p.first_tile && p.last_tile && epilogue.type == kTfPofInt8 &&
         epilogue.table == nullptr && epilogue.bounded;
}

void RunOnes(const Part& part) {
  UnitToInt8 unit;
  if (ToInt8(part, &unit)) {
    RunPairsToInt8(unit, part.groups, part.stream);
  } else {
    RunPairs(part);
  }
}

void RunFours(Part part) {
  const int outputs = Min(kUnit, part.packed->outputs - part.unit * kUnit);
  UnitToInt8 unit;
  if (ToInt8(part, &unit) && outputs % 4 == 0) {
    // The longest are the first: what is left has next to no weights.
    part.groups = RunBlocksToInt8(unit, part.groups, &part.stream);
  }
  RunBlocks<4>(part);
}

// Interleaves all quads of a tile's panel.
void InterleaveQuads(const uint8_t* panel, int inputs, uint8_t* to) {
  for (int k = 0; k < inputs; k += 4) {
    __m512i quad[4];
    // A quad that ends the inputs repeats the last: its weights are zero.
    uint64_t indices = 0;
    for (int i = 3; i >= 0; --i) {
      const uint64_t input = k + i < inputs ? k + i : inputs - 1;
      indices = indices << 16 | input * (kPanelTokens / 8);
    }
    LoadQuad(panel, indices, quad);
    for (int v = 0; v < 4; ++v) {
      _mm512_store_si512(to + k * kPanelTokens + v * 64, quad[v]);
    }
  }
}

TF_POF_INLINE void DotAligned(const uint8_t* quads, uint32_t offset,
                              const uint32_t* weights, __m512i sums[4]) {
  const __m512i w = PinnedBroadcast(weights);
  const uint8_t* from = quads + offset;
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    PinnedDot(&sums[v], _mm512_load_si512(from + v * 64), w);
  }
}

__attribute__((noinline)) void RunAligned(const Part& part,
                                          const uint8_t* quads) {
  auto* pair = reinterpret_cast<const AlignedPair*>(part.stream);
  for (const InterleaveGroup* g = part.groups; g != part.groups_end; ++g) {
    __m512i a[4], b[4];
    const bool two = g->second != kNoOutput;
    Begin(part, g->first, a);
    if (two) {
      Begin(part, g->second, b);
    } else {
      Fill(b, 0);
    }
    Prefetch(reinterpret_cast<const uint8_t*>(pair),
             g->quads * sizeof(AlignedPair));
    for (const AlignedPair* end = pair + g->quads; pair != end; ++pair) {
      DotAligned(quads, pair->offsets[0], &pair->weights[0], a);
      DotAligned(quads, pair->offsets[1], &pair->weights[1], b);
    }
    End(part, g->first, a);
    if (two) End(part, g->second, b);
  }
}

}  // namespace

void RunInterleavedAvx512(const void* packed, const Epilogue& epilogue,
                          const Task& task) {
  const auto& p = *static_cast<const Interleaved*>(packed);
  for (int tile = 0; tile < p.tiles; ++tile) {
    const uint8_t* panel =
        static_cast<const uint8_t*>(task.input) +
        static_cast<size_t>(tile) * p.tile_inputs * kPanelTokens;
    if (p.columns == 4) {
      const int rest = p.inputs - tile * p.tile_inputs;
      InterleaveQuads(panel, rest < p.tile_inputs ? rest : p.tile_inputs,
                      task.scratch);
    }
    for (int unit = task.unit_begin; unit < task.unit_end; ++unit) {
      const size_t at = static_cast<size_t>(tile) * p.units + unit;
      const Part part = {
          &p,
          &epilogue,
          panel,
          p.groups.data + p.first_group.data[at],
          p.groups.data + p.first_group.data[at + 1],
          p.stream.data + p.first_byte.data[at],
          unit,
          tile == 0,
          tile == p.tiles - 1,
          static_cast<size_t>(unit - task.unit_begin) * kUnit,
          task.output,
          reinterpret_cast<int32_t*>(task.scratch + AlignedBytes(p)),
      };
      if (p.columns == 4) {
        RunAligned(part, task.scratch);
      } else if (p.rows == 1) {
        RunOnes(part);
      } else if (p.rows == 2) {
        RunBlocks<2>(part);
      } else {
        RunFours(part);
      }
    }
  }
}

}  // namespace tf_pof
