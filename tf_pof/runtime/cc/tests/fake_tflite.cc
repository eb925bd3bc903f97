#include "tests/fake_tflite.h"

#include "crc32.h"
#include "match.h"
#include "tests/testing.h"

namespace tf_pof {
namespace {

// More is as good, but slow.
constexpr int kMaxRecords = 1 << 9;
constexpr size_t kMaxConstant = 1 << 16;

// `Array` is TfLiteIntArray or TfLiteFloatArray.
template <typename Array>
Array* NewArray(size_t count) {
  auto* array = static_cast<Array*>(
      malloc(sizeof(Array) + count * sizeof(Array::data[0])));
  CHECK(array != nullptr, "no memory");
  array->size = static_cast<int>(count);
  return array;
}

void FillFromPool(const FakeModel& model, size_t offset, size_t bytes,
                  void* to) {
  auto* out = static_cast<uint8_t*>(to);
  for (size_t i = 0; i < bytes; ++i) {
    out[i] = model.pool_size == 0 ? 0
                                  : model.pool[(offset + i) % model.pool_size];
  }
}

void ReadQuantization(const FakeModel& model, const FakeTensor& record,
                      TfLiteTensor* tensor) {
  tensor->quantization.type = record.quantization_type;
  if (record.quantization_type != kTfLiteAffineQuantization ||
      record.flags & FakeTensor::kNoParams) {
    return;
  }
  auto* params = Allocate<TfLiteAffineQuantizationParams>(1);
  params->scale = NewArray<TfLiteFloatArray>(record.num_scales);
  params->zero_point = NewArray<TfLiteIntArray>(record.num_zero_points);
  params->quantized_dimension = record.quantized_dimension;
  FillFromPool(model, record.scales, record.num_scales * sizeof(float),
               params->scale->data);
  FillFromPool(model, record.zero_points, record.num_zero_points * sizeof(int),
               params->zero_point->data);
  tensor->quantization.params = params;
}

void ReadTensor(FakeModel* model, int index) {
  const FakeTensor& record = model->records.data[index];
  TfLiteTensor* tensor = &model->context.tensors[index];
  static int sparsity;
  constexpr int kArenaRw = 2;
  const bool constant = record.flags & FakeTensor::kConstant;
  tensor->type = record.type;
  tensor->is_variable = record.flags & FakeTensor::kVariable;
  tensor->allocation_type = constant ? kTfLiteMmapRo : kArenaRw;
  if (record.flags & FakeTensor::kSparse) tensor->sparsity = &sparsity;
  ReadQuantization(*model, record, tensor);
  if (record.rank != kNoDims) {
    tensor->dims = NewArray<TfLiteIntArray>(record.rank);
    for (int i = 0; i < record.rank; ++i) {
      tensor->dims->data[i] = i < 6 ? record.dims[i] : 1;
    }
    if (record.flags & FakeTensor::kAnyBatch) {
      TfLiteIntArray* signature = NewIntArray(tensor->dims->data, record.rank);
      if (record.rank > 0) signature->data[0] = -1;
      tensor->dims_signature = signature;
    }
  }
  if (constant) {
    model->SetData(index, Min<size_t>(record.bytes, kMaxConstant));
  }
}

// TFLite makes booleans of a file's bytes.
void FixBooleans(int op, uint8_t* params) {
  const auto fix = [params](size_t at) { params[at] = params[at] != 0; };
  switch (op) {
    case kTfLiteBuiltinFullyConnected:
      return fix(offsetof(TfLiteFullyConnectedParams, keep_num_dims));
    case kTfLiteBuiltinMean:
      return fix(offsetof(TfLiteReducerParams, keep_dims));
    case kTfLiteBuiltinBatchMatmul:
      fix(offsetof(TfLiteBatchMatMulParams, adj_x));
      return fix(offsetof(TfLiteBatchMatMulParams, adj_y));
    case kTfLiteBuiltinGelu:
      return fix(offsetof(TfLiteGeluParams, approximate));
    case kTfLiteBuiltinStridedSlice:
      return fix(offsetof(TfLiteStridedSliceParams, offset));
  }
}

TfLiteIntArray* ReadIndices(const int16_t* values, int count) {
  int wide[8];
  for (int i = 0; i < count; ++i) wide[i] = values[i];
  return NewIntArray(wide, count);
}

void ReadNode(const FakeNode& record, FakeModel::Entry* entry) {
  TfLiteNode& node = entry->node;
  node.inputs = ReadIndices(record.inputs, Min<int>(record.num_inputs, 8));
  node.outputs = ReadIndices(record.outputs, Min<int>(record.num_outputs, 2));
  if (record.params != FakeNode::kNone) {
    auto* params = Allocate<uint8_t>(sizeof(record.builtin_data));
    memcpy(params, record.builtin_data, sizeof(record.builtin_data));
    FixBooleans(record.op, params);
    node.builtin_data = params;
  }
  entry->registration.builtin_code = record.op;
  if (record.params == FakeNode::kPackedWeights) {
    entry->registration.custom_name = kPackedCode;
  }
}

}  // namespace

TfLiteIntArray* NewIntArray(const int* values, size_t count) {
  auto* array = NewArray<TfLiteIntArray>(count);
  if (count > 0) memcpy(array->data, values, count * sizeof(int));
  return array;
}

void FreeParams(TfLiteDelegateParams* params) {
  free(params->nodes_to_replace);
  free(params->input_tensors);
  free(params->output_tensors);
}

void FakeModel::SetData(int index, size_t bytes) {
  const FakeTensor& record = records.data[index];
  TfLiteTensor* tensor = &context.tensors[index];
  free(const_cast<void*>(tensor->allocation));
  tensor->allocation = tensor->data.data = nullptr;
  tensor->bytes = bytes;
  if (record.flags & FakeTensor::kNoData) return;
  constexpr int kNotAligned = FakeTensor::kConstant | FakeTensor::kUnaligned;
  const size_t skip = (record.flags & kNotAligned) == kNotAligned;
  auto* memory = ::Allocate<uint8_t>(bytes + skip);
  // Of other use to TFLite, and of none to delegates.
  tensor->allocation = memory;
  uint8_t* data = memory + skip;
  tensor->data.data = data;
  FillFromPool(*this, record.data, bytes, data);
  if (header.options & 64 && record.type == kTfLiteUInt8 && bytes >= 8) {
    const uint32_t crc = Crc32(data + 8, bytes - 8);
    memcpy(data + 4, &crc, sizeof(crc));
  }
}

FakeModel::Entry* FakeModel::AddNode() {
  auto* larger = ::Allocate<Entry>(num_nodes + 1);
  if (num_nodes > 0) memcpy(larger, nodes, num_nodes * sizeof(Entry));
  free(nodes);
  nodes = larger;
  memset(static_cast<void*>(&nodes[num_nodes]), 0, sizeof(Entry));
  return &nodes[num_nodes++];
}

bool FakeModel::Read(const uint8_t* bytes, size_t size) {
  if (size < sizeof(header)) return false;
  memcpy(&header, bytes, sizeof(header));
  const size_t tensors = header.num_tensors * sizeof(FakeTensor);
  const size_t all = sizeof(header) + tensors +
                     header.num_nodes * sizeof(FakeNode);
  if (size < all || header.num_tensors > kMaxRecords ||
      header.num_nodes > kMaxRecords) {
    return false;
  }
  pool = bytes + all;
  pool_size = size - all;
  CHECK(records.Resize(header.num_tensors), "no memory");
  if (tensors > 0) memcpy(records.data, bytes + sizeof(header), tensors);
  context.impl_ = this;
  context.tensors_size = header.num_tensors;
  context.tensors = ::Allocate<TfLiteTensor>(header.num_tensors);
  memset(static_cast<void*>(context.tensors), 0,
         header.num_tensors * sizeof(TfLiteTensor));
  for (size_t i = 0; i < records.size; ++i) {
    ReadTensor(this, static_cast<int>(i));
  }
  Buffer<int> order = {};
  const uint8_t* at = bytes + sizeof(header) + tensors;
  for (int i = 0; i < header.num_nodes; ++i, at += sizeof(FakeNode)) {
    FakeNode record;
    memcpy(&record, at, sizeof(record));
    ReadNode(record, AddNode());
    CHECK(order.Append(i), "no memory");
  }
  plan = NewIntArray(order.data, order.size);
  order.Free();
  SetFunctions();
  return true;
}

void FakeModel::ResizeBatch(int batch) {
  for (size_t i = 0; i < records.size; ++i) {
    TfLiteTensor* tensor = &context.tensors[i];
    if (tensor->dims_signature == nullptr || tensor->dims->size == 0) continue;
    tensor->dims->data[0] = batch;
  }
}

void FakeModel::Free() {
  FreePreview();
  for (int i = 0; i < num_nodes; ++i) {
    Entry& entry = nodes[i];
    if (entry.node.delegate != nullptr) {
      entry.registration.free(&context, entry.node.user_data);
      FreeParams(&entry.params);
    }
    free(entry.node.inputs);
    free(entry.node.outputs);
    free(entry.node.builtin_data);
  }
  free(nodes);
  free(plan);
  for (size_t i = 0; i < records.size; ++i) {
    TfLiteTensor& tensor = context.tensors[i];
    if (tensor.quantization.params != nullptr) {
      auto* params = static_cast<TfLiteAffineQuantizationParams*>(
          tensor.quantization.params);
      free(params->scale);
      free(params->zero_point);
      free(params);
    }
    free(tensor.dims);
    free(const_cast<TfLiteIntArray*>(tensor.dims_signature));
    free(const_cast<void*>(tensor.allocation));
  }
  free(context.tensors);
  records.Free();
}

}  // namespace tf_pof
