// Layer norm, embeddings and quantization against double precision, every
// kernel against the oracle bit for bit.
#include <math.h>
#include <string.h>

#include "tests/norm_data.h"

namespace {

int8_t* RandomBytes(size_t count, Random* random) {
  auto* bytes = Allocate<int8_t>(count);
  for (size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<int8_t>(random->Between(-128, 127));
  }
  return bytes;
}

void LayerNorms(int tokens, int channels, Random* random) {
  const size_t size = static_cast<size_t>(tokens) * channels;
  auto* floats = Allocate<float>(size);
  auto* more = Allocate<float>(size);
  for (size_t i = 0; i < size; ++i) {
    floats[i] = Uniform(random, -5, 9);
    more[i] = Uniform(random, -1, 1);
  }
  int8_t* bytes = RandomBytes(size, random);
  auto* multipliers = Allocate<float>(channels);
  for (int i = 0; i < channels; ++i) multipliers[i] = Uniform(random, 0, 3);
  // Which of residual, float_x, x and multipliers of x there are.
  for (int inputs : {1, 2, 3, 4, 5, 12, 13}) {
    Norm norm(tokens, channels, random);
    if (inputs & 8) norm.params.x_multipliers = multipliers;
    for (size_t i = 0; i < size; ++i) {
      if (inputs & 1) norm.inputs[i] += floats[i];
      if (inputs & 2) norm.inputs[i] += more[i];
      if (inputs & 4) {
        norm.inputs[i] +=
            (bytes[i] + 128) * static_cast<double>(norm.params.x.scale) *
            (inputs & 8 ? static_cast<double>(multipliers[i % channels]) : 1);
      }
    }
    NormTask task = {};
    if (inputs & 1) task.residual = floats;
    if (inputs & 2) task.float_x = more;
    if (inputs & 4) task.x = bytes;
    norm.Run(task);
    // In place.
    memcpy(norm.output, floats, size * sizeof(float));
    if ((inputs & 5) == 5) {
      CHECK(TfPofLayerNormRun(&norm.params, tokens, norm.output, bytes, nullptr,
                              norm.output, nullptr, nullptr) == kTfPofOk,
            "in place");
      CHECK(memcmp(norm.output, norm.oracle, size * sizeof(float)) == 0,
            "in place");
    }
    norm.Free();
  }
  free(floats);
  free(more);
  free(bytes);
  free(multipliers);
}

void EmbeddingSums(int tokens, int sequence, int channels, Random* random) {
  constexpr int kRows = 9;
  TfPofTable tables[4];
  int32_t* ids[4];
  Norm norm(tokens, channels, random);
  for (int i = 0; i < 4; ++i) {
    int8_t* table = RandomBytes(kRows * channels, random);
    tables[i] = {
        kRows, table, {0.01f * static_cast<float>(i + 1), i * 40 - 60}};
    ids[i] = i == 1 ? nullptr : Allocate<int32_t>(tokens);
    for (int t = 0; t < tokens; ++t) {
      int id = t % sequence;
      if (ids[i] != nullptr) id = ids[i][t] = random->Between(0, kRows - 1);
      for (int c = 0; c < channels; ++c) {
        norm.inputs[static_cast<size_t>(t) * channels + c] +=
            static_cast<double>(tables[i].quantization.scale) *
            (table[id * channels + c] - tables[i].quantization.zero_point);
      }
    }
  }
  NormTask task = {};
  task.tables = tables;
  task.ids = ids;
  task.num_tables = 4;
  task.sequence = sequence;
  norm.Run(task);

  const auto run = [&](int32_t rows) {
    return TfPofEmbeddingsRun(tables, ids, rows, tokens, sequence, &norm.params,
                              norm.output, nullptr, nullptr);
  };
  CHECK(run(4) == kTfPofOk, "good ids");
  const size_t bytes = static_cast<size_t>(tokens) * channels * sizeof(float);
  CHECK(memcmp(norm.output, norm.oracle, bytes) == 0, "other floats");
  CHECK(run(0) == kTfPofInvalidArgument, "no table");
  CHECK(run(5) == kTfPofInvalidArgument, "5 tables");
  for (int32_t id : {-1, kRows}) {
    const int32_t good = ids[2][tokens - 1];
    ids[2][tokens - 1] = id;
    CHECK(run(4) == kTfPofInvalidArgument, "id %d", id);
    ids[2][tokens - 1] = good;
  }
  tables[1].rows = (tokens < sequence ? tokens : sequence) - 1;
  CHECK(run(4) == kTfPofInvalidArgument, "a position without a row");
  for (int i = 0; i < 4; ++i) {
    free(const_cast<int8_t*>(tables[i].table));
    free(ids[i]);
  }
  norm.Free();
}

void Quantization(size_t count, Random* random) {
  auto* floats = Allocate<float>(count);
  auto* back = Allocate<float>(count);
  auto* again = Allocate<float>(count);
  auto* bytes = Allocate<int8_t>(count);
  auto* flipped = Allocate<int8_t>(count);
  const float special[] = {NAN,   INFINITY, -INFINITY, 1e30f, -1e30f,
                           0.25f, -0.25f,   0.75f,     -0.0f, 3e9f};
  const int expected[] = {127, 127, -128, 127, -128, -3, -3, -1, -3, 127};
  for (int k = 0; k < kNumTransformerKernels; ++k) {
    const TransformerKernel& kernel = *kTransformerKernels[k];
    if (!tf_pof::Supported(kernel.isa)) continue;
    for (int zero : {-128, -3, 127}) {
      const TfPofQuantization quantization = {0.5f, zero};
      for (size_t i = 0; i < count; ++i) {
        floats[i] = i < 10 ? special[i] : Uniform(random, -99, 99);
      }
      kernel.quantize(floats, count, quantization, 0, bytes);
      kernel.dequantize(bytes, count, quantization, 0, back);
      kernel.quantize(floats, count, quantization, tf_pof::kPanelFlip, flipped);
      kernel.dequantize(flipped, count, quantization, tf_pof::kPanelFlip,
                        again);
      for (size_t i = 0; i < count; ++i) {
        CHECK(
            flipped[i] == static_cast<int8_t>(bytes[i] ^ tf_pof::kPanelFlip) &&
                again[i] == back[i],
            "%s: %d and %g in panels for %d and %g", kernel.name, flipped[i],
            again[i], bytes[i], back[i]);
        CHECK(back[i] == 0.5f * static_cast<float>(bytes[i] - zero), "%s: %g",
              kernel.name, back[i]);
        double step = nearbyint(floats[i] * 2.0) + zero;
        step = step > 127 ? 127 : step < -128 ? -128 : step;
        if (i < 10 && zero == -3) step = expected[i];
        if (i > 0 || zero == -3) {
          CHECK(bytes[i] == step, "%s: %d for %g", kernel.name, bytes[i],
                floats[i]);
        }
      }
    }
  }
  free(floats);
  free(back);
  free(again);
  free(bytes);
  free(flipped);
}

void RejectBadArguments() {
  float x[8] = {}, y[8];
  int8_t q[8] = {};
  const TfPofLayerNormParams good = {8, x, x, 1e-6f, {1, 0}, nullptr, {1, 0}};
  const auto run = [&](const TfPofLayerNormParams* params, int32_t tokens,
                       const float* residual, const int8_t* int8_x,
                       const float* float_x, float* output) {
    return TfPofLayerNormRun(params, tokens, residual, int8_x, float_x, output,
                             nullptr, nullptr);
  };
  CHECK(run(&good, 1, x, q, nullptr, y) == kTfPofOk, "good arguments");
  CHECK(run(nullptr, 1, x, q, nullptr, y) == kTfPofInvalidArgument, "params");
  CHECK(run(&good, 0, x, q, nullptr, y) == kTfPofInvalidArgument, "tokens");
  CHECK(run(&good, 1, nullptr, nullptr, nullptr, y) == kTfPofInvalidArgument,
        "no input");
  CHECK(run(&good, 1, x, q, x, y) == kTfPofInvalidArgument, "both x");
  CHECK(run(&good, 1, x, q, nullptr, nullptr) == kTfPofInvalidArgument,
        "no output");
  for (int i = 0; i < 6; ++i) {
    TfPofLayerNormParams bad = good;
    if (i == 0) bad.channels = 0;
    if (i == 1) bad.channels = 8193;
    if (i == 2) bad.gamma = nullptr;
    if (i == 3) bad.epsilon = NAN;
    if (i == 4) bad.x.scale = -1.0f;
    if (i == 5) bad.x.zero_point = -129;
    CHECK(run(&bad, 1, x, q, nullptr, y) == kTfPofInvalidArgument,
          "bad argument %d", i);
  }
}

}  // namespace

int main() {
  Random random = {1};
  for (int channels : {1, 15, 16, 64, 100, 768, 8192}) {
    for (int tokens : {1, 9}) LayerNorms(tokens, channels, &random);
  }
  EmbeddingSums(1, 1, 20, &random);
  EmbeddingSums(14, 7, 768, &random);
  EmbeddingSums(130, 9, 36, &random);
  for (int channels : {1, 67, 128}) {
    for (int tokens : {17, 33, 64, 131}) LayerNorms(tokens, channels, &random);
  }
  for (size_t count : {0, 1, 16, 1000}) Quantization(count, &random);
  RejectBadArguments();
  return 0;
}
