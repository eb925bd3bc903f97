#include "weights_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "buffer.h"
#include "packed_weights.h"

namespace tf_pof {

struct Hash {
  uint64_t low;
  uint64_t high;
};

struct CachedLayer {
  Hash key;
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

// 64 x 64 to 128 bits, folded.
uint64_t Mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Two hashes of the multiply-and-fold kind (as wyhash is), side by side.
class Hasher {
 public:
  Hasher() {
    uint64_t key[2] = {};
#if defined(__linux__)
    const auto* random = reinterpret_cast<const void*>(getauxval(AT_RANDOM));
    if (random != nullptr) memcpy(key, random, sizeof(key));
#endif
    // Digits of pi keep the keys from being zero.
    a_ = key_a_ = Mix(key[0] ^ 0x243F6A8885A308D3, 0x13198A2E03707345);
    b_ = key_b_ = Mix(key[1] ^ 0xA4093822299F31D1, 0x082EFA98EC4E6C89);
  }

  void Add(const void* bytes, size_t size) {
    const auto* at = static_cast<const uint8_t*>(bytes);
    uint64_t word[2];
    size_t left = size;
    for (; left >= sizeof(word); left -= sizeof(word)) {
      memcpy(word, at, sizeof(word));
      Add(word[0], word[1]);
      at += sizeof(word);
    }
    word[0] = word[1] = 0;
    if (left > 0) memcpy(word, at, left);
    Add(word[0], word[1]);
    Add(size, bytes == nullptr);
  }

  template <typename T>
  void AddValue(const T& value) {
    Add(&value, sizeof(value));
  }

  Hash Result() {
    return {Mix(a_ ^ key_b_, 0x452821E638D01377),
            Mix(b_ ^ key_a_, 0xBE5466CF34E90C6D)};
  }

 private:
  void Add(uint64_t x, uint64_t y) {
    a_ = Mix(a_ ^ x, key_a_ ^ y);
    b_ = Mix(b_ ^ y, key_b_ ^ x);
  }

  uint64_t key_a_, key_b_, a_, b_;
};

Hash HashOf(const LayerSource& source) {
  const TfPofFullyConnectedParams& p = source.params;
  Hasher hasher;
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

TfPofStatus PackFrom(const LayerSource& source, TfPofThreadPool* pool,
                     TfPofFullyConnected** layer, const char** problem) {
  TfPofFullyConnectedParams params = source.params;
  PackedReader reader;
  reader.problem = static_cast<int>(PackedStatus::kOk);
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
    params.read_rows = ReadPackedRows;
    params.read_context = &reader;
  }
  const TfPofStatus status =
      TfPofFullyConnectedCreate(&params, nullptr, source.tokens, pool, layer);
  const auto found = static_cast<PackedStatus>(reader.problem);
  if (found != PackedStatus::kOk) *problem = PackedMessage(found);
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
  free(layer);
}

}  // namespace

TfPofStatus AcquireLayer(const LayerSource& source, TfPofThreadPool* pool,
                         CachedLayer** result, bool* shared,
                         const char** problem) {
  *result = nullptr;
  *problem = nullptr;
  const Hash key = HashOf(source);
  pthread_mutex_lock(&mutex);
  CachedLayer* layer = layers;
  while (layer != nullptr &&
         (layer->key.low != key.low || layer->key.high != key.high)) {
    layer = layer->next;
  }
  *shared = layer != nullptr;
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
    TfPofFullyConnected* packed = nullptr;
    const char* found = nullptr;
    const TfPofStatus status = PackFrom(source, pool, &packed, &found);
    pthread_mutex_lock(&mutex);
    layer->layer = packed;
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
