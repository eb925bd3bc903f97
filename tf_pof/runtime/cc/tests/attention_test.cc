// Attention against softmax(QK^T)V in double precision, every kernel against
// the oracle bit for bit.
#include <math.h>
#include <string.h>

#include "tests/testing.h"
#include "transformer_kernel.h"

namespace {

using tf_pof::kNumTransformerKernels;
using tf_pof::kTransformerKernels;
using tf_pof::TransformerKernel;

struct Case {
  int batch, sequence, heads, head_size;
  int query_zero, key_zero, value_zero, output_zero;
  float score_range;  // scores are about this far from 0
  int mask;  // 0 none, 1 last third of the keys, 2 all keys, 3 random numbers
  float masked;
};

const Case kCases[] = {
    {1, 1, 1, 1, 0, 0, 0, 0, 1.0f, 0, 0},
    {1, 128, 2, 64, 3, -5, 7, -9, 5.0f, 1, -10000.0f},
    {2, 37, 3, 32, -128, 127, 127, -128, 20.0f, 1, -INFINITY},
    {1, 20, 2, 20, 127, -128, -128, 127, 3.0f, 0, 0},
    {3, 5, 1, 7, 0, 0, 10, 0, 8.0f, 3, 0},
    {2, 17, 2, 48, 1, 2, 3, 4, 2.0f, 2, -1e9f},
    {1, 13, 1, 33, -7, 9, 0, 0, 2.0f, 2, -INFINITY},
    {2, 130, 2, 64, 5, -3, 2, 1, 4.0f, 1, -1e9f},
    {1, 65, 5, 96, 11, 0, -20, 5, 1.0f, 1, -1e9f},
    {1, 512, 1, 64, 0, 0, 127, 0, 0.01f, 0, 0},
    {1, 1100, 1, 16, 0, 50, -128, 0, 0.0f, 1, -1e9f},
};

struct Inputs {
  TfPofAttentionParams params;
  size_t size;
  int8_t* query;
  int8_t* key;
  int8_t* value;
  float* mask;

  void Free() {
    free(query);
    free(key);
    free(value);
    free(mask);
  }
};

Inputs MakeInputs(const Case& c, Random* random) {
  Inputs in;
  in.size = static_cast<size_t>(c.batch) * c.sequence * c.heads * c.head_size;
  const int depth = c.head_size;
  const float score = c.score_range / sqrtf(static_cast<float>(depth));
  in.params = {c.heads,
               depth,
               {0.013f, c.query_zero},
               {0.021f, c.key_zero},
               {0.05f, c.value_zero},
               {0.02f, c.output_zero},
               score / (0.013f * 0.021f * 74 * 74)};
  int8_t** tensors[] = {&in.query, &in.key, &in.value};
  for (int8_t** tensor : tensors) {
    *tensor = Allocate<int8_t>(in.size);
    for (size_t i = 0; i < in.size; ++i) {
      (*tensor)[i] = static_cast<int8_t>(random->Between(-128, 127));
    }
  }
  in.mask = nullptr;
  if (c.mask != 0) {
    in.mask = Allocate<float>(c.batch * c.sequence);
    for (int i = 0; i < c.batch * c.sequence; ++i) {
      const int k = i % c.sequence;
      const bool masked = c.mask == 2 || k >= c.sequence - c.sequence / 3;
      in.mask[i] = c.mask == 3 ? static_cast<float>(random->Between(-3, 3))
                               : (masked ? c.masked : 0.0f);
    }
  }
  return in;
}

// The exact output before rounding, in steps from the zero point.
double Expected(const Case& c, const Inputs& in, int b, int q, int h, int d,
                double* probabilities) {
  const TfPofAttentionParams& p = in.params;
  const auto at = [&](int token, int channel) {
    return (static_cast<size_t>(b * c.sequence + token) * c.heads + h) *
               c.head_size +
           channel;
  };
  if (d == 0) {
    double highest = -INFINITY;
    for (int k = 0; k < c.sequence; ++k) {
      int dot = 0;
      for (int i = 0; i < c.head_size; ++i) {
        dot += (in.query[at(q, i)] - p.query.zero_point) *
               (in.key[at(k, i)] - p.key.zero_point);
      }
      double score = static_cast<double>(p.query.scale) * p.key.scale *
                     p.score_scale * dot;
      if (in.mask != nullptr) {
        // All masked alike: like all free alike, less what float32 can hold.
        const float mask = in.mask[b * c.sequence + k];
        score = c.mask == 2 ? 0.0 : score + mask;
      }
      probabilities[k] = score;
      if (score > highest) highest = score;
    }
    double sum = 0;
    for (int k = 0; k < c.sequence; ++k) {
      probabilities[k] = exp(probabilities[k] - highest);
      sum += probabilities[k];
    }
    for (int k = 0; k < c.sequence; ++k) probabilities[k] /= sum;
  }
  double result = 0;
  for (int k = 0; k < c.sequence; ++k) {
    result += probabilities[k] * (in.value[at(k, d)] - p.value.zero_point);
  }
  return result * p.value.scale / p.output.scale;
}

void CheckOracle(const Case& c, const Inputs& in, const int8_t* output) {
  auto* probabilities = Allocate<double>(c.sequence);
  const int8_t* got = output;
  for (int b = 0; b < c.batch; ++b) {
    for (int q = 0; q < c.sequence; ++q) {
      for (int h = 0; h < c.heads; ++h) {
        for (int d = 0; d < c.head_size; ++d, ++got) {
          double exact = Expected(c, in, b, q, h, d, probabilities);
          exact += c.output_zero;
          exact = exact > 127 ? 127 : exact < -128 ? -128 : exact;
          // Rounding to int8, and weights that are rounded to 2^-16.
          const double error = fabs(*got - exact);
          CHECK(error <= 0.5 + 0.05,
                "%dx%d, head size %d, query %d, channel %d: %d for %f", c.batch,
                c.sequence, c.head_size, q, d, *got, exact);
        }
      }
    }
  }
  free(probabilities);
}

// The same from panels to panels, whose other tokens hold anything.
void RunPanels(const Case& c, const Inputs& in, const TransformerKernel& kernel,
               int32_t threads, const int8_t* oracle) {
  const int tokens = c.batch * c.sequence, channels = c.heads * c.head_size;
  const size_t bytes = TfPofPanelBytes(tokens, channels);
  const int8_t* rows[] = {in.query, in.key, in.value};
  int8_t* panels[3];
  for (int i = 0; i < 3; ++i) {
    panels[i] = Allocate<int8_t>(bytes);
    memset(panels[i], 0x55, bytes);
    TfPofToPanels(rows[i], tokens, channels, panels[i]);
  }
  auto* output = Allocate<int8_t>(bytes);
  auto* back = Allocate<int8_t>(in.size);
  TfPofThreadPool* pool = TfPofThreadPoolCreate(threads);
  const size_t thread_bytes =
      tf_pof::AttentionThreadBytes(&in.params, c.sequence, kTfPofPanels);
  const size_t size = 64 + thread_bytes * threads;
  auto* workspace = Allocate<uint8_t>(size + 1);
  memset(workspace, 0x47, size + 1);
  const TfPofStatus status =
      tf_pof::RunAttention(kernel, &in.params, c.batch, c.sequence, panels[0],
                           panels[1], panels[2], in.mask, output, workspace + 1,
                           thread_bytes, pool, nullptr, kTfPofPanels);
  CHECK(status == kTfPofOk, "%s returned %d", kernel.name, status);
  TfPofFromPanels(output, tokens, channels, back);
  CHECK(memcmp(oracle, back, in.size) == 0,
        "%s with %d threads: other bits in panels for sequence %d, head size "
        "%d",
        kernel.name, threads, c.sequence, c.head_size);
  TfPofThreadPoolDelete(pool);
  for (int8_t* panel : panels) free(panel);
  free(output);
  free(back);
  free(workspace);
}

void RunCase(const Case& c, Random* random) {
  Inputs in = MakeInputs(c, random);
  auto* oracle = Allocate<int8_t>(in.size);
  auto* output = Allocate<int8_t>(in.size);
  for (int k = 0; k < kNumTransformerKernels; ++k) {
    const TransformerKernel& kernel = *kTransformerKernels[k];
    if (!tf_pof::Supported(kernel.isa)) continue;
    for (int32_t threads : {1, 2, 3}) {
      TfPofThreadPool* pool = TfPofThreadPoolCreate(threads);
      auto* workspace = Allocate<uint8_t>(
          TfPofAttentionWorkspace(&in.params, c.sequence, threads) + 1);
      const bool first = k == 0 && threads == 1;
      // Garbage from before has no effect, nor has an odd address.
      memset(workspace, 0x47,
             TfPofAttentionWorkspace(&in.params, c.sequence, threads) + 1);
      const TfPofStatus status = tf_pof::RunAttention(
          kernel, &in.params, c.batch, c.sequence, in.query, in.key, in.value,
          in.mask, first ? oracle : output, workspace + 1,
          tf_pof::AttentionThreadBytes(&in.params, c.sequence, kTfPofRows),
          pool);
      CHECK(status == kTfPofOk, "%s returned %d", kernel.name, status);
      if (first) {
        CheckOracle(c, in, oracle);
      } else {
        CHECK(memcmp(oracle, output, in.size) == 0,
              "%s with %d threads: other bits for sequence %d, head size %d",
              kernel.name, threads, c.sequence, c.head_size);
      }
      free(workspace);
      TfPofThreadPoolDelete(pool);
      RunPanels(c, in, kernel, threads, oracle);
    }
  }
  free(oracle);
  free(output);
  in.Free();
}

// Examples that share a mask are as those that have copies of it.
void OneMask(TfPofLayout layout, Random* random) {
  Case c = {3, 30, 2, 16, 1, 2, 3, 4, 2.0f, 3, 0};
  Inputs in = MakeInputs(c, random);
  for (int i = c.sequence; i < c.batch * c.sequence; ++i) {
    in.mask[i] = in.mask[i % c.sequence];
  }
  const size_t bytes = TfPofPanelBytes(c.batch * c.sequence, 32);
  int8_t* outputs[] = {Allocate<int8_t>(bytes), Allocate<int8_t>(bytes)};
  int8_t* values[] = {in.query, in.key, in.value};
  for (int8_t*& value : values) {
    auto* padded = Allocate<int8_t>(bytes);
    memcpy(padded, value, in.size);
    value = padded;
  }
  const size_t thread_bytes =
      tf_pof::AttentionThreadBytes(&in.params, c.sequence, layout);
  auto* workspace = Allocate<uint8_t>(64 + thread_bytes);
  for (const bool one : {false, true}) {
    auto* mask = Allocate<float>(one ? c.sequence : c.batch * c.sequence);
    memcpy(mask, in.mask,
           (one ? c.sequence : c.batch * c.sequence) * sizeof(float));
    CHECK(tf_pof::RunAttention(*kTransformerKernels[0], &in.params, c.batch,
                               c.sequence, values[0], values[1], values[2],
                               mask, outputs[one], workspace, thread_bytes,
                               nullptr, nullptr, layout, one) == kTfPofOk,
          "one mask");
    free(mask);
  }
  CHECK(memcmp(outputs[0], outputs[1],
               layout == kTfPofRows ? in.size : bytes / 2) == 0,
        "one mask for all");
  for (int8_t* value : values) free(value);
  for (int8_t* output : outputs) free(output);
  free(workspace);
  in.Free();
}

void RejectBadArguments() {
  const TfPofQuantization unit = {1.0f, 0};
  const TfPofAttentionParams good = {2, 8, unit, unit, unit, unit, 1.0f};
  int8_t x[16] = {}, y[16];
  auto* workspace = Allocate<uint8_t>(TfPofAttentionWorkspace(&good, 1, 1));
  const auto run = [&](const TfPofAttentionParams* params, int32_t batch,
                       int32_t sequence, const int8_t* key) {
    return TfPofAttentionRun(params, batch, sequence, x, key, x, nullptr, y,
                             workspace, nullptr);
  };
  CHECK(run(&good, 1, 1, x) == kTfPofOk, "good arguments");
  CHECK(run(nullptr, 1, 1, x) == kTfPofInvalidArgument, "no params");
  CHECK(run(&good, 0, 1, x) == kTfPofInvalidArgument, "batch 0");
  CHECK(run(&good, 1, 0, x) == kTfPofInvalidArgument, "sequence 0");
  CHECK(run(&good, 1, 1, nullptr) == kTfPofInvalidArgument, "no key");
  for (int i = 0; i < 6; ++i) {
    TfPofAttentionParams bad = good;
    if (i == 0) bad.num_heads = 0;
    if (i == 1) bad.head_size = 0;
    if (i == 2) bad.query.scale = 0.0f;
    if (i == 3) bad.value.scale = NAN;
    if (i == 4) bad.output.zero_point = 128;
    if (i == 5) bad.score_scale = INFINITY;
    CHECK(run(&bad, 1, 1, x) == kTfPofInvalidArgument, "bad argument %d", i);
    CHECK(TfPofAttentionWorkspace(&bad, 1, 1) == 0, "bad argument %d", i);
  }
  free(workspace);
}

}  // namespace

int main() {
  Random random = {1};
  for (const Case& c : kCases) RunCase(c, &random);
  for (TfPofLayout layout : {kTfPofRows, kTfPofPanels}) {
    OneMask(layout, &random);
  }
  RejectBadArguments();
  return 0;
}
