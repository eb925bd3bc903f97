// The "pairs" kernels on 256-bit vectors: 2:4, with AVX-VNNI or with AVX2
// alone.
//
// 32 tokens at a time. With AVX-VNNI the pairs of two groups are interleaved to
// quads, which one dot product multiplies: half the loads and a third of the
// unpacks that nonzeros in any place take. AVX2 has no dot product of bytes
// that would not saturate: its pairs are of 16 bits, which nothing more needs
// to be done to.
#include "kernels_x86.h"
#include "pairs.h"
#include "sums_avx2.h"

namespace tf_pof {
namespace {

// The inputs of a tile for half a panel.
struct Rows {
  const uint8_t* panel;
  int inputs;

  // Four inputs' 32 tokens. Where inputs end, the last again: its weights are
  // zero.
  TF_POF_INLINE_MEMBER void Group(int first, __m256i rows[kGroupInputs]) const {
    for (int i = 0; i < kGroupInputs; ++i) {
      const int k = first + i < inputs ? first + i : inputs - 1;
      rows[i] = _mm256_load_si256(
          reinterpret_cast<const __m256i*>(panel + k * kPanelTokens));
    }
  }
};

// Calls function(a, b, place) for the pairs of all groups, in the order of
// their numbers.
template <typename Function>
TF_POF_INLINE void ForEachPair(const Rows& rows, Function function) {
  int place = 0;
  for (int k = 0; k < rows.inputs; k += kGroupInputs) {
    __m256i group[kGroupInputs];
    rows.Group(k, group);
    for (int i = 0; i < kGroupInputs; ++i) {
      for (int j = i + 1; j < kGroupInputs; ++j) {
        function(group[i], group[j], place++);
      }
    }
  }
}

struct Vnni {
  using Block = PairBlock<int8_t>;

  // A pair is two bytes a token, in two vectors, ready to be interleaved with
  // another in the order of sums.
  static void Prepare(const Rows& rows, uint8_t* table) {
    auto* to = reinterpret_cast<__m256i*>(table);
    ForEachPair(rows, [to](__m256i a, __m256i b, int place) {
      _mm256_store_si256(to + 2 * place, _mm256_unpacklo_epi8(a, b));
      _mm256_store_si256(to + 2 * place + 1, _mm256_unpackhi_epi8(a, b));
    });
  }

  // All blocks of two outputs, in one statement: gcc 12 keeps too much in
  // registers between single ones, and compilers know the dot product only for
  // processors that all have it.
  static TF_POF_INLINE_MEMBER void RunBlocks(const uint8_t* table,
                                             const Block* block,
                                             const Block* end, Sums* first,
                                             Sums* second) {
    static_assert(sizeof(Block) == 24 && kPickStep == 16 && kGroupPairs == 6,
                  "see below");
    uint64_t x, y, i, j;
#define TF_POF_STEP(picks, weights, pairs, a, b, c, d) \
  "movzbl %b[" picks "], %k[i]\n\t"                    \
  "vmovdqa " pairs "(%[table],%[i],4), %%ymm8\n\t"     \
  "vmovdqa " pairs "+32(%[table],%[i],4), %%ymm9\n\t"  \
  "movzbl %h[" picks "], %k[j]\n\t"                    \
  "vmovdqa " pairs "(%[table],%[j],4), %%ymm10\n\t"    \
  "vmovdqa " pairs "+32(%[table],%[j],4), %%ymm11\n\t" \
  "vpunpcklwd %%ymm10, %%ymm8, %%ymm12\n\t"            \
  "vpunpckhwd %%ymm10, %%ymm8, %%ymm8\n\t"             \
  "shr $16, %[" picks "]\n\t"                          \
  "vpunpcklwd %%ymm11, %%ymm9, %%ymm10\n\t"            \
  "vpunpckhwd %%ymm11, %%ymm9, %%ymm9\n\t"             \
  "vpbroadcastd " weights "(%[block]), %%ymm14\n\t"    \
  "%{vex%} vpdpbusd %%ymm14, %%ymm12, %[" a "]\n\t"    \
  "%{vex%} vpdpbusd %%ymm14, %%ymm8, %[" b "]\n\t"     \
  "%{vex%} vpdpbusd %%ymm14, %%ymm10, %[" c "]\n\t"    \
  "%{vex%} vpdpbusd %%ymm14, %%ymm9, %[" d "]\n\t"
#define TF_POF_STEPS(first, second, pairs)               \
  TF_POF_STEP("x", first, pairs, "a0", "a1", "a2", "a3") \
  TF_POF_STEP("y", second, pairs, "b0", "b1", "b2", "b3")
    asm volatile(".p2align 6\n1:\n\t"
                 "mov (%[block]), %[x]\n\t"
                 "mov 24(%[block]), %[y]\n\t"  //
                 TF_POF_STEPS("8", "32", "0") TF_POF_STEPS("12", "36", "768")
                     TF_POF_STEPS("16", "40", "1536")
                         TF_POF_STEPS("20", "44", "2304")
                 "add $48, %[block]\n\t"
                 "add $3072, %[table]\n\t"
                 "cmp %[end], %[block]\n\t"
                 "jne 1b"
                 : [block] "+r"(block), [table] "+r"(table), [x] "=&Q"(x),
                   [y] "=&Q"(y), [i] "=&Q"(i), [j] "=&Q"(j),
                   [a0] "+x"(first->v[0]), [a1] "+x"(first->v[1]),
                   [a2] "+x"(first->v[2]), [a3] "+x"(first->v[3]),
                   [b0] "+x"(second->v[0]), [b1] "+x"(second->v[1]),
                   [b2] "+x"(second->v[2]), [b3] "+x"(second->v[3])
                 : [end] "r"(end)
                 : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm14", "cc",
                   "memory");
#undef TF_POF_STEPS
#undef TF_POF_STEP
  }
};

struct Wide {
  using Block = PairBlock<int16_t>;

  // A pair is two numbers of 16 bits a token, in four vectors.
  static void Prepare(const Rows& rows, uint8_t* table) {
    auto* to = reinterpret_cast<__m256i*>(table);
    ForEachPair(rows, [to](__m256i a, __m256i b, int place) {
      const __m256i zero = _mm256_setzero_si256();
      const __m256i low = _mm256_unpacklo_epi8(a, b);
      const __m256i high = _mm256_unpackhi_epi8(a, b);
      __m256i* pair = to + 4 * place;
      _mm256_store_si256(pair, _mm256_unpacklo_epi8(low, zero));
      _mm256_store_si256(pair + 1, _mm256_unpackhi_epi8(low, zero));
      _mm256_store_si256(pair + 2, _mm256_unpacklo_epi8(high, zero));
      _mm256_store_si256(pair + 3, _mm256_unpackhi_epi8(high, zero));
    });
  }

  // Blocks of one of the outputs, in one statement: gcc 12 adds products up in
  // an order that does not fit into registers.
  static TF_POF_INLINE_MEMBER void RunOutput(const uint8_t* table,
                                             const Block* block,
                                             const Block* end, Sums* sums) {
    static_assert(sizeof(Block) == 40 && kPickStep == 16 && kGroupPairs == 6,
                  "see below");
    uint64_t picks, i;
#define TF_POF_GROUP(weights, pairs)                            \
  "vpbroadcastd " weights "(%[block]), %%ymm8\n\t"              \
  "vpmaddwd " pairs "(%[table],%[i],8), %%ymm8, %%ymm9\n\t"     \
  "vpmaddwd " pairs "+32(%[table],%[i],8), %%ymm8, %%ymm10\n\t" \
  "vpmaddwd " pairs "+64(%[table],%[i],8), %%ymm8, %%ymm11\n\t" \
  "vpmaddwd " pairs "+96(%[table],%[i],8), %%ymm8, %%ymm12\n\t" \
  "vpaddd %%ymm9, %[a], %[a]\n\t"                               \
  "vpaddd %%ymm10, %[b], %[b]\n\t"                              \
  "vpaddd %%ymm11, %[c], %[c]\n\t"                              \
  "vpaddd %%ymm12, %[d], %[d]\n\t"
#define TF_POF_GROUPS(first, second, pairs) \
  "movzbl %b[picks], %k[i]\n\t"             \
  TF_POF_GROUP(first, pairs)                \
  "movzbl %h[picks], %k[i]\n\t"             \
  "shr $16, %[picks]\n\t"                   \
  TF_POF_GROUP(second, pairs)
    asm volatile(".p2align 6\n1:\n\t"
                 "mov (%[block]), %[picks]\n\t"  //
                 TF_POF_GROUPS("8", "12", "0")
                     TF_POF_GROUPS("16", "20", "1536")
                         TF_POF_GROUPS("24", "28", "3072")
                             TF_POF_GROUPS("32", "36", "4608")
                 "add $80, %[block]\n\t"
                 "add $6144, %[table]\n\t"
                 "cmp %[end], %[block]\n\t"
                 "jb 1b"
                 : [block] "+r"(block), [table] "+r"(table),
                   [picks] "=&Q"(picks), [i] "=&Q"(i), [a] "+x"(sums->v[0]),
                   [b] "+x"(sums->v[1]), [c] "+x"(sums->v[2]),
                   [d] "+x"(sums->v[3])
                 : [end] "r"(end)
                 : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "cc", "memory");
#undef TF_POF_GROUPS
#undef TF_POF_GROUP
  }

  static TF_POF_INLINE_MEMBER void RunBlocks(const uint8_t* table,
                                             const Block* block,
                                             const Block* end, Sums* first,
                                             Sums* second) {
    RunOutput(table, block, end, first);
    RunOutput(table, block + 1, end, second);
  }
};

// One unit in one tile, for half a panel.
template <typename Isa>
struct Part {
  const typename Isa::Block* block;
  int blocks;   // of an output
  int outputs;  // of the unit
  const uint8_t* table;
  SumsPlace place;
};

// Takes copies: what is stored might be anywhere for all that compilers know.
template <typename Isa>
__attribute__((noinline)) void RunPart(Part<Isa> p, Epilogue epilogue) {
  for (int n = 0; n < p.outputs; n += kPairOutputs) {
    const bool two = n + 1 < p.outputs;
    const auto* end = p.block + kPairOutputs * p.blocks;
    Sums first = Begin(p.place, n);
    Sums second = two ? Begin(p.place, n + 1) : Sums();
    Isa::RunBlocks(p.table, p.block, end, &first, &second);
    End(p.place, epilogue, n, first);
    if (two) End(p.place, epilogue, n + 1, second);
    p.block = end;
  }
}

template <typename Isa>
void Run(const void* packed, const Epilogue& epilogue, const Task& task) {
  const auto& p = *static_cast<const Pairs*>(packed);
  const size_t table_bytes = PairTableBytes(p);
  for (int half = 0; half * kTokens < task.tokens; ++half) {
    for (int tile = 0; tile < p.tiles; ++tile) {
      const int first = tile * p.tile_blocks * kBlockInputs;
      const int blocks = p.TileBlocks(tile);
      const int rest = p.inputs - first;
      const int inputs = blocks * kBlockInputs;
      Isa::Prepare({static_cast<const uint8_t*>(task.input) +
                        static_cast<size_t>(first) * kPanelTokens +
                        half * kTokens,
                    rest < inputs ? rest : inputs},
                   task.scratch);
      for (int unit = task.unit_begin; unit < task.unit_end; ++unit) {
        const int output = unit * kUnit;
        const int left = p.outputs - output;
        const size_t row = static_cast<size_t>(unit - task.unit_begin) * kUnit;
        RunPart<Isa>({reinterpret_cast<const typename Isa::Block*>(
                          p.stream.data +
                          p.FirstByte(tile, output / kPairOutputs)),
                      blocks,
                      left < kUnit ? left : kUnit,
                      task.scratch,
                      {p.bias.data + output, epilogue.scales + output,
                       tile == 0, tile == p.tiles - 1,
                       row * kPanelTokens + half * kTokens, task.output,
                       reinterpret_cast<int32_t*>(task.scratch + table_bytes)}},
                     epilogue);
      }
    }
  }
}

}  // namespace

void RunPairsAvx2(const void* packed, const Epilogue& epilogue,
                  const Task& task) {
  Run<Wide>(packed, epilogue, task);
}

void RunPairsAvxVnni(const void* packed, const Epilogue& epilogue,
                     const Task& task) {
  Run<Vnni>(packed, epilogue, task);
}

}  // namespace tf_pof
