#include "fully_connected.h"

#include "buffer.h"
#include "kernel.h"
#include "run_layers.h"
#include "stored.h"

using tf_pof::CeilDiv;
using tf_pof::Kernel;
using tf_pof::kPanelTokens;
using tf_pof::kUnit;

namespace {

bool Positive(float value) { return value > 0.0f && value < 3.0e38f; }

bool ZeroPoint(int32_t value) { return value >= -128 && value <= 127; }

bool Valid(const TfPofFullyConnectedParams& p) {
  if (p.num_inputs < 1 || p.num_outputs < 1 ||
      (p.weights == nullptr) == (p.read_rows == nullptr) ||
      p.weight_scales == nullptr || p.num_outputs > INT32_MAX / kPanelTokens ||
      p.num_inputs > INT32_MAX / kPanelTokens ||
      p.num_inputs > INT32_MAX / p.num_outputs) {
    return false;
  }
  if (p.num_weight_scales != 1 && p.num_weight_scales != p.num_outputs) {
    return false;
  }
  if (!Positive(p.input_scale) || !ZeroPoint(p.input_zero_point)) return false;
  for (int i = 0; i < p.num_weight_scales; ++i) {
    if (!Positive(p.weight_scales[i])) return false;
  }
  switch (p.output_type) {
    case kTfPofInt8:
      return Positive(p.output_scale) && ZeroPoint(p.output_zero_point);
    case kTfPofFloat32:
    case kTfPofInt32:
      return p.table == nullptr;
  }
  return false;
}

bool FillEpilogue(const TfPofFullyConnectedParams& p,
                  TfPofFullyConnected* layer) {
  if (!layer->scales.Resize(p.num_outputs)) return false;
  layer->bounded = true;
  for (int n = 0; n < p.num_outputs; ++n) {
    float scale =
        p.input_scale * p.weight_scales[p.num_weight_scales == 1 ? 0 : n];
    if (p.output_type == kTfPofInt8) scale /= p.output_scale;
    layer->scales.data[n] = scale;
    layer->bounded &= scale < 1.0f;
  }
  layer->has_table = p.table != nullptr;
  for (int i = 0; layer->has_table && i < 256; ++i) {
    layer->table[i] = static_cast<uint8_t>(p.table[i] + 128);
  }
  return true;
}

}  // namespace

TfPofStatus tf_pof::CreateLayer(const TfPofFullyConnectedParams& params,
                                const char* kernel, int32_t tokens,
                                TfPofThreadPool* pool,
                                const StoredArrays* stored,
                                TfPofFullyConnected** result) {
  *result = nullptr;
  if (!Valid(params) || tokens < 1) return kTfPofInvalidArgument;
  tf_pof::Isa isa;
  if (!tf_pof::FindIsa(params.isa, &isa)) return kTfPofNoKernel;
  const Kernel* chosen =
      kernel == nullptr ? nullptr : tf_pof::FindKernel(kernel, isa);
  if (kernel != nullptr && chosen == nullptr) return kTfPofNoKernel;
  if (stored != nullptr && (chosen == nullptr || chosen->list == nullptr)) {
    return kTfPofInvalidArgument;
  }
  auto* layer =
      static_cast<TfPofFullyConnected*>(calloc(1, sizeof(TfPofFullyConnected)));
  if (layer == nullptr) return kTfPofOutOfMemory;
  layer->inputs = params.num_inputs;
  layer->outputs = params.num_outputs;
  layer->units = CeilDiv(params.num_outputs, kUnit);
  layer->type = params.output_type;
  layer->output_zero_point = params.output_zero_point;
  layer->permutes_bytes =
      isa >= Isa::kAvx512Vbmi && tf_pof::Supported(Isa::kAvx512Vbmi);
  TfPofStatus status = kTfPofOutOfMemory;
  if (FillEpilogue(params, layer)) {
    const tf_pof::Layer source = {params.num_inputs,
                                  params.num_outputs,
                                  params.weights,
                                  params.read_rows,
                                  params.read_context,
                                  params.bias,
                                  layer->scales.data,
                                  params.input_zero_point,
                                  pool,
                                  stored};
    status = chosen == nullptr
                 ? tf_pof::ChooseKernel(source, tokens, isa, &chosen,
                                        &layer->window_fill)
                 : kTfPofOk;
    layer->kernel = chosen;
    if (status == kTfPofOk) status = chosen->pack(source, &layer->packed);
  }
  if (status != kTfPofOk) {
    TfPofFullyConnectedDelete(layer);
    return status;
  }
  *result = layer;
  return kTfPofOk;
}

TfPofStatus TfPofFullyConnectedCreate(const TfPofFullyConnectedParams* params,
                                      const char* kernel, int32_t tokens,
                                      TfPofThreadPool* pool,
                                      TfPofFullyConnected** result) {
  return tf_pof::CreateLayer(*params, kernel, tokens, pool, nullptr, result);
}

bool tf_pof::ListArrays(const TfPofFullyConnected* layer,
                        StoredArrays* arrays) {
  *arrays = {};
  if (layer->kernel->list == nullptr) return false;
  layer->kernel->list(layer->packed, arrays);
  return true;
}

void TfPofFullyConnectedDelete(TfPofFullyConnected* layer) {
  if (layer == nullptr) return;
  if (layer->packed != nullptr) layer->kernel->free_packed(layer->packed);
  layer->scales.Free();
  free(layer);
}

const char* TfPofFullyConnectedKernel(const TfPofFullyConnected* layer) {
  return layer->kernel->name;
}

size_t TfPofFullyConnectedBytes(const TfPofFullyConnected* layer) {
  return layer->kernel->packed_bytes(layer->packed) + layer->scales.bytes();
}

size_t TfPofFullyConnectedWorkspace(const TfPofFullyConnected* layer,
                                    int32_t threads) {
  return TfPofFullyConnectedWorkspaceAll(&layer, 1, threads);
}

size_t TfPofFullyConnectedWorkspaceAll(const TfPofFullyConnected* const* layers,
                                       int32_t count, int32_t threads) {
  return tf_pof::kCacheLine +
         tf_pof::ThreadBytes(layers, count) * tf_pof::Max(threads, 1);
}

TfPofStatus TfPofFullyConnectedRun(const TfPofFullyConnected* layer,
                                   int32_t tokens, const int8_t* input,
                                   TfPofLayout input_layout, void* output,
                                   TfPofLayout output_layout, void* workspace,
                                   TfPofThreadPool* pool) {
  return TfPofFullyConnectedRunAll(&layer, 1, tokens, input, input_layout,
                                   &output, output_layout, workspace, pool);
}

TfPofStatus TfPofFullyConnectedRunAll(
    const TfPofFullyConnected* const* layers, int32_t count, int32_t tokens,
    const int8_t* input, TfPofLayout input_layout, void* const* outputs,
    TfPofLayout output_layout, void* workspace, TfPofThreadPool* pool) {
  if (count < 1) return kTfPofInvalidArgument;
  return tf_pof::RunLayers(layers, count, tokens, input, input_layout, outputs,
                           output_layout, workspace,
                           tf_pof::ThreadBytes(layers, count), pool);
}
