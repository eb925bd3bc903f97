// A libFuzzer target: whole models under the delegate, from reading the graph
// to calls. The custom mutator keeps to records, so that most changes leave a
// graph that the delegate still knows something of.
#include "tests/model_fuzz.h"

#include <string.h>

#include "delegate.h"
#include "tests/fake_tflite.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size)
    __attribute__((weak));

namespace tf_pof {
namespace {

TfLiteDelegate* MakeDelegate(int options) {
  const char* const isas[] = {"best",       "scalar",     "avx2", "avxvnni",
                              "avx512vnni", "avx512vbmi", "neon", "neondot"};
  const char* keys[] = {"isa", "threads", "min_sparsity", "tokens"};
  const char* values[] = {isas[options & 7], options & 8 ? "2" : "1",
                          options & 16 ? "0" : "0.5",
                          options & 32 ? "1" : "128"};
  return TfPofDelegateCreate(keys, values, 4, nullptr);
}

// A record of a model, or a piece of its pool.
struct Region {
  uint8_t* begin;
  size_t size;
};

Region ChooseRegion(uint8_t* bytes, size_t size, Random* random) {
  FakeHeader header;
  if (size < sizeof(header)) return {bytes, size};
  memcpy(&header, bytes, sizeof(header));
  const size_t nodes = sizeof(header) + header.num_tensors * sizeof(FakeTensor);
  const size_t pool = nodes + header.num_nodes * sizeof(FakeNode);
  const int kind = random->Between(0, 15);
  if (pool > size || kind == 0) return {bytes, sizeof(header)};
  if (kind < 7 && header.num_tensors > 0) {
    const int i = random->Between(0, header.num_tensors - 1);
    return {bytes + sizeof(header) + i * sizeof(FakeTensor),
            sizeof(FakeTensor)};
  }
  if (kind < 12 && header.num_nodes > 0) {
    const int i = random->Between(0, header.num_nodes - 1);
    return {bytes + nodes + i * sizeof(FakeNode), sizeof(FakeNode)};
  }
  if (pool == size) return {bytes, sizeof(header)};
  const size_t start =
      random->Between(0, static_cast<int>((size - pool - 1) / 4)) * 4;
  return {bytes + pool + start, Min<size_t>(size - pool - start, 16)};
}

void ChangeNumber(Region region, Random* random) {
  const int32_t numbers[] = {0,    1,     -1,        2,         3,
                             127,  -129,  1 << 16,   INT32_MAX, INT32_MIN,
                             16,   12,    24,        32,        1 << 13};
  const float floats[] = {0.0f, -1.0f, 1e-45f, 1e30f, 0.5f,
                          __builtin_nanf(""), __builtin_inff()};
  const int size = static_cast<int>(region.size);
  int32_t number = numbers[random->Between(0, 14)];
  if (random->Between(0, 3) == 0) {
    memcpy(&number, &floats[random->Between(0, 6)], sizeof(number));
  }
  const int width = 1 << random->Between(0, 2);
  if (size < width) return;
  memcpy(region.begin + random->Between(0, (size - width) / width) * width,
         &number, width);
}

}  // namespace

ModelRun RunModel(const uint8_t* bytes, size_t size) {
  ModelRun run = {};
  FakeModel model = {};
  TfLiteDelegate* delegate = nullptr;
  if (model.Read(bytes, size)) delegate = MakeDelegate(model.header.options);
  if (delegate != nullptr && model.Apply(delegate) == kTfLiteOk) {
    run.planned = model.plan->size;
    run.delegated = model.NumDelegated();
    const auto call = [&] {
      const bool fine =
          model.Allocate() == kTfLiteOk && model.Invoke() == kTfLiteOk;
      run.calls += fine;
      return fine;
    };
    if (call() && model.header.batch > 0) {
      model.ResizeBatch(model.header.batch);
      call();
    }
  }
  model.Free();
  TfPofDelegateDelete(delegate);
  return run;
}

void ChangeModel(uint8_t* bytes, size_t size, Random* random) {
  const Region region = ChooseRegion(bytes, size, random);
  if (region.size == 0) return;
  const int kind = random->Between(0, 3);
  if (kind == 0) {
    const Region other = ChooseRegion(bytes, size, random);
    memmove(region.begin, other.begin, Min(region.size, other.size));
  } else if (kind == 1) {
    const int at = random->Between(0, static_cast<int>(region.size) - 1);
    region.begin[at] ^= 1 << random->Between(0, 7);
  } else if (kind == 2 && LLVMFuzzerMutate != nullptr) {
    LLVMFuzzerMutate(region.begin, region.size, region.size);
  } else {
    ChangeNumber(region, random);
  }
}

}  // namespace tf_pof

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tf_pof::RunModel(data, size);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned seed) {
  Random random = {seed};
  random.Bits();
  if (random.Between(0, 15) == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  for (int i = random.Between(0, 2); i >= 0; --i) {
    tf_pof::ChangeModel(data, size, &random);
  }
  return size;
}
