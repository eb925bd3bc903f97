#include "weights_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "buffer.h"
#include "packed_weights.h"
#include "weights_file.h"

// Of the sources of all kernels, from CMake; other builds have the version of
// stored.h alone.
#ifndef TF_POF_PACKING
#define TF_POF_PACKING ""
#endif

namespace tf_pof {

struct CachedLayer {
  Hash key;
  MappedFile file;  // that `layer` is in, or none
  int users;
  bool packing;
  TfPofStatus status;
  const char* problem;
  TfPofFullyConnected* layer;
  CachedLayer* next;
};

namespace {

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t packed_one = PTHREAD_COND_INITIALIZER;
CachedLayer* layers = nullptr;  // guarded by `mutex`, as all in it

Hash ProcessKey() {
  Hash key = {};
#if defined(__linux__)
  const auto* random = reinterpret_cast<const void*>(getauxval(AT_RANDOM));
  if (random != nullptr) memcpy(&key, random, sizeof(key));
#endif
  return key;
}

Hash HashOf(const LayerSource& source, const Hash& key) {
  const TfPofFullyConnectedParams& p = source.params;
  Hasher hasher(key);
  hasher.AddValue(p.num_inputs);
  hasher.AddValue(p.num_outputs);
  const size_t count = static_cast<size_t>(p.num_inputs) * p.num_outputs;
  hasher.Add(p.weights, p.weights == nullptr ? 0 : count);
  hasher.Add(source.packed, source.packed_bytes);
  hasher.Add(p.weight_scales, p.num_weight_scales * sizeof(float));
  hasher.Add(p.bias, p.bias == nullptr ? 0 : p.num_outputs * sizeof(int32_t));
  hasher.AddValue(p.input_scale);
  hasher.AddValue(p.input_zero_point);
  hasher.AddValue(p.output_scale);
  hasher.AddValue(p.output_zero_point);
  hasher.AddValue(p.output_type);
  hasher.Add(p.table, p.table == nullptr ? 0 : 256);
  hasher.Add(p.isa, p.isa == nullptr ? 0 : strlen(p.isa));
  hasher.AddValue(source.tokens);
  // Of all that it says, files of other processors are not taken for own ones.
  hasher.Add(TfPofIsaName(0), strlen(TfPofIsaName(0)));
  hasher.AddValue(sizeof(size_t));
  hasher.AddValue(kStoredVersion);
  hasher.Add(TF_POF_PACKING, strlen(TF_POF_PACKING));
  return hasher.Result();
}

struct PackedReader {
  PackedWeights weights;
  int problem;  // atomic: a PackedStatus
};

TfPofStatus DecodeGroup(PackedReader* reader, int group, int8_t* rows) {
  const PackedStatus status = DecodeRows(reader->weights, group, rows);
  if (status == PackedStatus::kOk) return kTfPofOk;
  __atomic_store_n(&reader->problem, static_cast<int>(status),
                   __ATOMIC_RELAXED);
  return kTfPofInvalidArgument;
}

// Rows of `group` from `first` on, at most `count`, by way of a copy.
TfPofStatus DecodePart(PackedReader* reader, int group, int first, int count,
                       int8_t* rows) {
  const PackedWeights& weights = reader->weights;
  const size_t columns = weights.columns;
  auto* all = static_cast<int8_t*>(malloc(columns * weights.num_rows(group)));
  if (all == nullptr) return kTfPofOutOfMemory;
  const TfPofStatus status = DecodeGroup(reader, group, all);
  if (status == kTfPofOk) {
    memcpy(rows, all + (first - weights.first_row(group)) * columns,
           count * columns);
  }
  free(all);
  return status;
}

TfPofStatus ReadPackedRows(void* context, int32_t first, int32_t count,
                           int8_t* rows) {
  auto* reader = static_cast<PackedReader*>(context);
  const PackedWeights& weights = reader->weights;
  while (count > 0) {
    const int group = first / weights.group_rows;
    const int end = weights.first_row(group) + weights.num_rows(group);
    const int some = Min(count, end - first);
    const TfPofStatus status =
        some == weights.num_rows(group)
            ? DecodeGroup(reader, group, rows)
            : DecodePart(reader, group, first, some, rows);
    if (status != kTfPofOk) return status;
    rows += static_cast<size_t>(some) * weights.columns;
    first += some;
    count -= some;
  }
  return kTfPofOk;
}

TfPofStatus DecodeAll(PackedReader* reader, int8_t* weights) {
  const size_t columns = reader->weights.columns;
  TfPofStatus status = kTfPofOk;
  for (int i = 0; status == kTfPofOk && i < reader->weights.num_groups; ++i) {
    status = DecodeGroup(reader, i,
                         weights + reader->weights.first_row(i) * columns);
  }
  return status;
}

TfPofStatus PackFrom(const LayerSource& source, TfPofThreadPool* pool,
                     TfPofFullyConnected** layer, const char** problem) {
  TfPofFullyConnectedParams params = source.params;
  PackedReader reader;
  reader.problem = static_cast<int>(PackedStatus::kOk);
  TfPofStatus status = kTfPofOk;
  if (source.packed != nullptr) {
    const PackedStatus opened =
        OpenPacked(source.packed, source.packed_bytes, &reader.weights);
    if (opened != PackedStatus::kOk) {
      *problem = PackedMessage(opened);
      return kTfPofInvalidArgument;
    }
    if (reader.weights.rows != params.num_outputs ||
        reader.weights.columns != params.num_inputs) {
      *problem = "Packed weights have another shape than their tensor.";
      return kTfPofInvalidArgument;
    }
    if (source.scratch != nullptr) {
      status = DecodeAll(&reader, source.scratch);
      params.weights = source.scratch;
    } else {
      params.read_rows = ReadPackedRows;
      params.read_context = &reader;
    }
  }
  if (status == kTfPofOk) {
    status =
        TfPofFullyConnectedCreate(&params, nullptr, source.tokens, pool, layer);
  }
  const auto found = static_cast<PackedStatus>(reader.problem);
  if (found != PackedStatus::kOk) *problem = PackedMessage(found);
  return status;
}

// From its file if there is a folder for them that has it, else packed, and
// then kept there.
TfPofStatus ReadOrPack(const LayerSource& source, TfPofThreadPool* pool,
                       MappedFile* file, TfPofFullyConnected** layer,
                       const char** problem) {
  Hash key;
  const char* folder = source.cache_dir;
  if (folder == nullptr || !OpenFolder(folder, &key)) {
    return PackFrom(source, pool, layer, problem);
  }
  const Hash name = HashOf(source, key);
  TfPofFullyConnectedParams params = source.params;
  // Not called: it stands for weights that are not there.
  if (params.weights == nullptr) params.read_rows = ReadPackedRows;
  if (ReadLayer(folder, key, name, params, source.tokens, file, layer)) {
    return kTfPofOk;
  }
  const TfPofStatus status = PackFrom(source, pool, layer, problem);
  if (status == kTfPofOk) WriteLayer(folder, key, name, *layer);
  return status;
}

// Takes the layer out of the list and frees it if it has no users. The mutex
// must be held.
void FreeUnused(CachedLayer* layer) {
  if (layer->users > 0) return;
  CachedLayer** at = &layers;
  while (*at != layer) at = &(*at)->next;
  *at = layer->next;
  TfPofFullyConnectedDelete(layer->layer);
  layer->file.Unmap();
  free(layer);
}

}  // namespace

TfPofStatus AcquireLayer(const LayerSource& source, TfPofThreadPool* pool,
                         CachedLayer** result, LayerOrigin* origin,
                         const char** problem) {
  *result = nullptr;
  *problem = nullptr;
  const Hash key = HashOf(source, ProcessKey());
  pthread_mutex_lock(&mutex);
  CachedLayer* layer = layers;
  while (layer != nullptr && !(layer->key == key)) layer = layer->next;
  *origin = layer != nullptr ? LayerOrigin::kShared : LayerOrigin::kPacked;
  if (layer != nullptr) {
    ++layer->users;
    while (layer->packing) pthread_cond_wait(&packed_one, &mutex);
  } else {
    layer = static_cast<CachedLayer*>(calloc(1, sizeof(CachedLayer)));
    if (layer == nullptr) {
      pthread_mutex_unlock(&mutex);
      return kTfPofOutOfMemory;
    }
    layer->key = key;
    layer->users = 1;
    layer->packing = true;
    layer->next = layers;
    layers = layer;
    pthread_mutex_unlock(&mutex);
    TfPofFullyConnected* made = nullptr;
    const char* found = nullptr;
    MappedFile file = {};
    const TfPofStatus status = ReadOrPack(source, pool, &file, &made, &found);
    if (file.bytes != nullptr) *origin = LayerOrigin::kFile;
    pthread_mutex_lock(&mutex);
    layer->layer = made;
    layer->file = file;
    layer->status = status;
    layer->problem = found;
    layer->packing = false;
    pthread_cond_broadcast(&packed_one);
  }
  const TfPofStatus status = layer->status;
  if (status == kTfPofOk) {
    *result = layer;
  } else {
    *problem = layer->problem;
    --layer->users;
    FreeUnused(layer);
  }
  pthread_mutex_unlock(&mutex);
  return status;
}

void ReleaseLayer(CachedLayer* layer) {
  if (layer == nullptr) return;
  pthread_mutex_lock(&mutex);
  --layer->users;
  FreeUnused(layer);
  pthread_mutex_unlock(&mutex);
}

const TfPofFullyConnected* Get(const CachedLayer* layer) {
  return layer->layer;
}

}  // namespace tf_pof
