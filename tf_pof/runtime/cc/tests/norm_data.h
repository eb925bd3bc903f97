// A layer norm's inputs, what it should be in double precision, and runs of
// every kernel, on rows and on panels, that are compared with the oracle's.
#ifndef TF_POF_RUNTIME_CC_TESTS_NORM_DATA_H_
#define TF_POF_RUNTIME_CC_TESTS_NORM_DATA_H_

#include <math.h>
#include <string.h>

#include "tests/testing.h"
#include "transformer_kernel.h"

namespace {

using tf_pof::kNumTransformerKernels;
using tf_pof::kTransformerKernels;
using tf_pof::NormTask;
using tf_pof::TransformerKernel;

float Uniform(Random* random, float low, float high) {
  return low + (high - low) * static_cast<float>(random->Bits()) * 0x1p-32f;
}

size_t PanelAt(int token, int channel, int channels) {
  return (static_cast<size_t>(token / 64) * channels + channel) * 64 +
         token % 64;
}

// A copy of rows, in panels if `panels`: anything where no token is.
template <typename T>
struct Panels {
  T* values;  // null for no rows
  bool panels;

  Panels(const T* rows, int tokens, int channels, bool panels)
      : values(nullptr), panels(panels) {
    if (rows == nullptr) return;
    const size_t size = TfPofPanelBytes(tokens, channels);
    values = Allocate<T>(size);
    memset(values, 0xff, size * sizeof(T));
    for (int t = 0; t < tokens; ++t) {
      for (int c = 0; c < channels; ++c) {
        const T value = rows[static_cast<size_t>(t) * channels + c];
        values[panels ? PanelAt(t, c, channels)
                      : static_cast<size_t>(t) * channels + c] = value;
        if (sizeof(T) == 1 && panels) {
          auto* byte =
              reinterpret_cast<uint8_t*>(&values[PanelAt(t, c, channels)]);
          *byte = static_cast<uint8_t>(*byte ^ tf_pof::kPanelFlip);
        }
      }
    }
  }
  TfPofLayout layout() const {
    return panels || values == nullptr ? kTfPofPanels : kTfPofRows;
  }
  void Free() { free(values); }
};

struct Norm {
  int tokens;
  int channels;
  TfPofLayerNormParams params;
  float* gamma;
  float* beta;
  double* inputs;  // [tokens, channels], exact
  float* oracle;
  float* output;
  int8_t* oracle_quantized;
  int8_t* quantized;

  Norm(int tokens, int channels, Random* random)
      : tokens(tokens), channels(channels) {
    gamma = Allocate<float>(channels);
    beta = Allocate<float>(channels);
    for (int i = 0; i < channels; ++i) {
      gamma[i] = Uniform(random, -2, 2);
      beta[i] = Uniform(random, -1, 1);
    }
    params = {channels,      gamma,   beta,       1e-12f,
              {0.07f, -128}, nullptr, {0.03f, 11}};
    const size_t size = static_cast<size_t>(tokens) * channels;
    inputs = Allocate<double>(size);
    for (size_t i = 0; i < size; ++i) inputs[i] = 0;
    oracle = Allocate<float>(size);
    output = Allocate<float>(size);
    oracle_quantized = Allocate<int8_t>(size);
    quantized = Allocate<int8_t>(size);
  }

  void Free() {
    free(gamma);
    free(beta);
    free(inputs);
    free(oracle);
    free(output);
    free(oracle_quantized);
    free(quantized);
  }

  void CheckOracle() const {
    for (int t = 0; t < tokens; ++t) {
      const double* x = inputs + static_cast<size_t>(t) * channels;
      double mean = 0, variance = 0, largest = 0;
      for (int i = 0; i < channels; ++i) mean += x[i] / channels;
      for (int i = 0; i < channels; ++i) {
        variance += (x[i] - mean) * (x[i] - mean) / channels;
        if (fabs(x[i]) > largest) largest = fabs(x[i]);
      }
      const double deviation = sqrt(variance + 1e-12);
      for (int i = 0; i < channels; ++i) {
        const size_t at = static_cast<size_t>(t) * channels + i;
        const double y = (x[i] - mean) / deviation * gamma[i] + beta[i];
        // Inputs and their mean are rounded to float32.
        const double bound = 1e-6 * (2 + largest / deviation);
        CHECK(fabs(oracle[at] - y) <= bound,
              "token %d of %d, channel %d: %g for %g", t, tokens, i, oracle[at],
              y);
        double step = y / 0.03f + 11;
        step = step > 127 ? 127 : step < -128 ? -128 : step;
        CHECK(fabs(oracle_quantized[at] - step) <= 0.5 + bound * 40,
              "token %d, channel %d: %d for %g", t, i, oracle_quantized[at],
              step);
      }
    }
  }

  // Runs a kernel on panels, but for values whose bit of `rows` is set, and
  // compares with the oracle.
  void RunPanels(const TransformerKernel& kernel, NormTask task,
                 TfPofThreadPool* pool, int rows) const {
    const size_t size = TfPofPanelBytes(tokens, channels);
    Panels<float> residual(task.residual, tokens, channels, !(rows & 1));
    Panels<float> float_x(task.float_x, tokens, channels, !(rows & 2));
    Panels<int8_t> x(task.x, tokens, channels, !(rows & 4));
    auto* floats = Allocate<float>(size);
    auto* bytes = Allocate<int8_t>(size);
    task.residual = residual.values;
    task.float_x = float_x.values;
    task.x = x.values;
    task.layouts = {true,
                    residual.layout(),
                    float_x.layout(),
                    x.layout(),
                    rows & 8 ? kTfPofRows : kTfPofPanels,
                    rows & 16 ? kTfPofRows : kTfPofPanels};
    for (int outputs : {1, 2, 3}) {
      // In place, where the oracle allows it.
      const bool in_place = outputs == 3 && task.residual != nullptr &&
                            !(rows & 8) && !(rows & 1);
      task.output = (outputs & 1) == 0 ? nullptr
                    : in_place         ? residual.values
                                       : floats;
      task.quantized = outputs & 2 ? bytes : nullptr;
      // Who needs no floats says that they are rows.
      NormTask run = task;
      if (task.output == nullptr) run.layouts.output = kTfPofRows;
      const size_t thread_bytes = tf_pof::NormThreadBytes(
          run.layouts, channels, task.tables != nullptr);
      const size_t size = 64 + thread_bytes * TfPofThreadPoolThreads(pool);
      auto* workspace = Allocate<uint8_t>(size + 1);
      memset(workspace, 0xff, size + 1);
      const TfPofStatus status = tf_pof::RunNorm(
          kernel, run, tokens, workspace + 1, thread_bytes, pool);
      CHECK(status == kTfPofOk, "%s returned %d", kernel.name, status);
      free(workspace);
      for (int t = 0; t < tokens; ++t) {
        for (int c = 0; c < channels; ++c) {
          const size_t row = static_cast<size_t>(t) * channels + c;
          const size_t panel = PanelAt(t, c, channels);
          if (task.output != nullptr) {
            const float* y = task.output + (rows & 8 ? row : panel);
            CHECK(memcmp(y, oracle + row, sizeof(*y)) == 0,
                  "%s: rows %d, token %d of %d, channel %d of %d: %g for %g",
                  kernel.name, rows, t, tokens, c, channels, *y, oracle[row]);
          }
          if (task.quantized != nullptr) {
            const int8_t y =
                rows & 16
                    ? bytes[row]
                    : static_cast<int8_t>(bytes[panel] ^ tf_pof::kPanelFlip);
            CHECK(y == oracle_quantized[row],
                  "%s: rows %d, token %d, channel %d: %d for %d", kernel.name,
                  rows, t, c, y, oracle_quantized[row]);
          }
        }
      }
    }
    residual.Free();
    float_x.Free();
    x.Free();
    free(floats);
    free(bytes);
  }

  // Runs all kernels on a task without outputs.
  void Run(NormTask task) const {
    const size_t size = static_cast<size_t>(tokens) * channels;
    task.params = &params;
    for (int k = 0; k < kNumTransformerKernels; ++k) {
      const TransformerKernel& kernel = *kTransformerKernels[k];
      if (!tf_pof::Supported(kernel.isa)) continue;
      for (int32_t threads : {1, 3}) {
        const bool first = k == 0 && threads == 1;
        TfPofThreadPool* pool = TfPofThreadPoolCreate(threads);
        const auto run = [&](float* to, int8_t* rounded) {
          task.output = to;
          task.quantized = rounded;
          const TfPofStatus status =
              tf_pof::RunNorm(kernel, task, tokens, nullptr, 0, pool);
          CHECK(status == kTfPofOk, "%s returned %d", kernel.name, status);
        };
        if (first) {
          run(oracle, oracle_quantized);
          CheckOracle();
        }
        run(output, nullptr);
        CHECK(memcmp(oracle, output, size * sizeof(float)) == 0,
              "%s: other floats for %d channels", kernel.name, channels);
        run(nullptr, quantized);
        CHECK(memcmp(oracle_quantized, quantized, size) == 0,
              "%s: other bytes for %d channels", kernel.name, channels);
        for (int rows : {0, 1, 4, 10, 16, 21, 24}) {
          if (rows > 0 && (threads > 1 || channels > 1000)) continue;
          RunPanels(kernel, task, pool, rows);
        }
        TfPofThreadPoolDelete(pool);
      }
    }
  }
};

}  // namespace

#endif  // TF_POF_RUNTIME_CC_TESTS_NORM_DATA_H_
