// A libFuzzer target: packed layers as a file of cache_dir may have them, its
// checksum put right. An input says what differs from arrays that a kernel
// packed: a byte for the weights, one for the kernel, then an Edit each.
#include "stored.h"
#include "tests/layer_data.h"

namespace tf_pof {
namespace {

constexpr Kind kInt8 = kKinds[3];
const Case kCases[] = {
    {70, 37, 3, 0.3, kRandom, 5, 0, true},
    {64, 32, 20, 1.0, kRandom, 5, 0, true},
    {1100, 270, 2, 0.05, kRandom, -9, 0, true},
    {1030, 280, 70, 0.1, kBlocks4x1, 3, 1, false},
    {302, 261, 65, 0.8, kTwoOfFour, 5, 0, true},
};
constexpr int kNumCases = sizeof(kCases) / sizeof(kCases[0]);
constexpr int kMaxKernels = 64;

struct Edit {
  uint8_t kind;
  uint8_t array;
  uint16_t high;  // of `at`
  uint32_t at;    // in the array, from its start over again
  uint64_t value;
};

// What is edited; made once.
struct Original {
  bool made;
  TfPofFullyConnected* layer;  // null if the kernel does not take the weights
};

const Data& DataOf(int c) {
  static Data data[kNumCases];
  if (data[c].input == nullptr) data[c] = MakeData(kCases[c]);
  return data[c];
}

const TfPofFullyConnected* LayerOf(int c, int kernel) {
  static Original originals[kNumCases][kMaxKernels];
  Original& original = originals[c][kernel];
  const Data& d = DataOf(c);
  if (!original.made && Takes(d, TfPofKernelName(kernel))) {
    const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
    CHECK(TfPofFullyConnectedCreate(&params, TfPofKernelName(kernel),
                                    d.shape.tokens, nullptr,
                                    &original.layer) == kTfPofOk,
          "%s", TfPofKernelName(kernel));
  }
  original.made = true;
  return original.layer;
}

void Change(const Edit& edit, StoredArrays* arrays) {
  StoredArrays::Array& array = arrays->arrays[edit.array % arrays->count];
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(array.data));
  if (array.bytes == 0) return;
  const size_t at = (uint64_t{edit.high} << 32 | edit.at) % array.bytes;
  const size_t width = size_t{1} << edit.kind % 4;
  const size_t start = at / width * width;
  const size_t most = array.bytes - start;
  switch (edit.kind / 4 % 8) {
    case 0:
      // Only ever shorter: what is behind is not there.
      array.bytes = at;
      break;
    case 1: {
      const size_t from = edit.value % array.bytes / width * width;
      memmove(bytes + start, bytes + from, Min(most, array.bytes - from));
      break;
    }
    default:
      memcpy(bytes + start, &edit.value, Min(width, most));
  }
}

void RunLayer(const Data& d, const TfPofFullyConnected* layer) {
  const Case& c = d.shape;
  auto* output = Allocate<int8_t>(static_cast<size_t>(c.tokens) * c.outputs);
  auto* workspace = Allocate<uint8_t>(TfPofFullyConnectedWorkspace(layer, 1));
  CHECK(TfPofFullyConnectedRun(layer, c.tokens, d.input, kTfPofRows, output,
                               kTfPofRows, workspace, nullptr) == kTfPofOk,
        "run");
  free(output);
  free(workspace);
}

void RunEdited(const uint8_t* data, size_t size) {
  const int c = data[0] % kNumCases;
  const int kernel = data[1] % TfPofKernelCount();
  const TfPofFullyConnected* original = LayerOf(c, kernel);
  StoredArrays arrays;
  if (original == nullptr || !ListArrays(original, &arrays)) return;
  for (int i = 0; i < arrays.count; ++i) {
    auto* copy = Allocate<uint8_t>(arrays.arrays[i].bytes);
    memcpy(copy, arrays.arrays[i].data, arrays.arrays[i].bytes);
    arrays.arrays[i].data = copy;
  }
  for (size_t at = 2; size - at >= sizeof(Edit); at += sizeof(Edit)) {
    Edit edit;
    memcpy(&edit, data + at, sizeof(edit));
    Change(edit, &arrays);
  }
  const TfPofFullyConnectedParams params = ParamsOf(DataOf(c), kInt8);
  TfPofFullyConnected* layer;
  const TfPofStatus status =
      CreateLayer(params, TfPofKernelName(kernel), kCases[c].tokens, nullptr,
                  &arrays, &layer);
  CHECK(status == kTfPofOk || status == kTfPofInvalidArgument, "%d", status);
  if (status == kTfPofOk) RunLayer(DataOf(c), layer);
  TfPofFullyConnectedDelete(layer);
  for (int i = 0; i < arrays.count; ++i) {
    free(const_cast<void*>(arrays.arrays[i].data));
  }
}

}  // namespace
}  // namespace tf_pof

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size >= 2) tf_pof::RunEdited(data, size);
  return 0;
}
