// The parts of the delegate that no model shows: the cache of packed layers,
// options, and what is done with the pages of files.
#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer.h"
#include "crc32.h"
#include "delegate_options.h"
#include "tests/testing.h"
#include "transformer_kernel.h"
#include "weights_cache.h"

namespace tf_pof {
namespace {

constexpr int kInputs = 40;
constexpr int kOutputs = 300;
constexpr size_t kHeader = 24;

struct Weights {
  // The packed form of the method "stored": a header, then the weights.
  uint8_t packed[kHeader + kInputs * kOutputs];
  int8_t dense[kInputs * kOutputs];
  float scale;
};

void Seal(Weights* weights) {
  const uint32_t crc = Crc32(weights->packed + 8, sizeof(weights->packed) - 8);
  memcpy(weights->packed + 4, &crc, sizeof(crc));
}

void Fill(Weights* weights, int group_rows) {
  Random random = {7};
  uint32_t nonzeros = 0;
  for (int8_t& weight : weights->dense) {
    weight = static_cast<int8_t>(
        random.Between(0, 9) == 0 ? random.Between(1, 127) : 0);
    nonzeros += weight != 0;
  }
  weights->scale = 0.01f;
  const uint8_t start[12] = {'T', 'P', 'W', '1',
                             0,   0,   0,   0,
                             0,   1,   1,   static_cast<uint8_t>(group_rows)};
  const uint32_t numbers[3] = {kOutputs, kInputs, nonzeros};
  memcpy(weights->packed, start, sizeof(start));
  memcpy(weights->packed + sizeof(start), numbers, sizeof(numbers));
  memcpy(weights->packed + kHeader, weights->dense, sizeof(weights->dense));
  Seal(weights);
}

LayerSource DenseSource(const Weights& weights) {
  LayerSource source = {};
  TfPofFullyConnectedParams& p = source.params;
  p.num_inputs = kInputs;
  p.num_outputs = kOutputs;
  p.weights = weights.dense;
  p.weight_scales = &weights.scale;
  p.num_weight_scales = 1;
  p.input_scale = 0.02f;
  p.output_scale = 0.03f;
  source.tokens = 1;
  return source;
}

LayerSource PackedSource(const Weights& weights) {
  LayerSource source = DenseSource(weights);
  source.params.weights = nullptr;
  source.packed = weights.packed;
  source.packed_bytes = sizeof(weights.packed);
  return source;
}

CachedLayer* Acquire(const LayerSource& source, bool expect_shared) {
  CachedLayer* layer;
  LayerOrigin origin;
  const char* problem;
  CHECK(AcquireLayer(source, nullptr, &layer, &origin, &problem) == kTfPofOk,
        "%s", problem == nullptr ? "" : problem);
  const bool shared = origin == LayerOrigin::kShared;
  CHECK(shared == expect_shared, "%d", shared);
  return layer;
}

void TestEqualLayersAreShared() {
  static Weights a, b;
  Fill(&a, 32);
  Fill(&b, 32);
  CachedLayer* first = Acquire(DenseSource(a), false);
  CachedLayer* second = Acquire(DenseSource(b), true);
  CHECK(Get(first) == Get(second), "packed twice");
  LayerSource other = DenseSource(a);
  other.params.output_zero_point = 1;
  CachedLayer* third = Acquire(other, false);
  b.dense[sizeof(b.dense) - 1] ^= 1;
  CachedLayer* fourth = Acquire(DenseSource(b), false);
  CHECK(Get(fourth) != Get(first), "one weight differs");
  ReleaseLayer(first);
  CachedLayer* again = Acquire(DenseSource(a), true);
  CHECK(Get(again) == Get(second), "freed too early");
  ReleaseLayer(again);
  ReleaseLayer(second);
  ReleaseLayer(third);
  ReleaseLayer(fourth);
  ReleaseLayer(Acquire(DenseSource(a), false));
}

void TestThreadsPackOnce() {
  static Weights weights;
  Fill(&weights, 32);
  struct User {
    pthread_t thread;
    CachedLayer* layer;
    LayerOrigin origin;
  };
  User users[8] = {};
  for (User& user : users) {
    pthread_create(
        &user.thread, nullptr,
        [](void* pointer) -> void* {
          auto* mine = static_cast<User*>(pointer);
          const char* problem;
          AcquireLayer(DenseSource(weights), nullptr, &mine->layer,
                       &mine->origin, &problem);
          return nullptr;
        },
        &user);
  }
  int packed = 0;
  for (User& user : users) {
    pthread_join(user.thread, nullptr);
    CHECK(user.layer != nullptr && user.layer == users[0].layer, "not shared");
    packed += user.origin == LayerOrigin::kPacked;
  }
  CHECK(packed == 1, "packed %d times", packed);
  for (User& user : users) ReleaseLayer(user.layer);
}

void Run(const CachedLayer* layer, int8_t* output) {
  int8_t input[kInputs];
  Random random = {9};
  for (int8_t& x : input) x = static_cast<int8_t>(random.Between(-128, 127));
  void* workspace = malloc(TfPofFullyConnectedWorkspace(Get(layer), 1));
  CHECK(TfPofFullyConnectedRun(Get(layer), 1, input, kTfPofRows, output,
                               kTfPofRows, workspace, nullptr) == kTfPofOk,
        "run");
  free(workspace);
}

void TestPackedEqualsDense() {
  // 256 rows are read at once: groups of 48 are cut.
  for (const int group_rows : {1, 32, 48, 64}) {
    static Weights weights;
    Fill(&weights, group_rows);
    CachedLayer* dense = Acquire(DenseSource(weights), false);
    CachedLayer* packed = Acquire(PackedSource(weights), false);
    int8_t expected[kOutputs], found[kOutputs];
    Run(dense, expected);
    Run(packed, found);
    CHECK(memcmp(expected, found, kOutputs) == 0, "groups of %d", group_rows);
    ReleaseLayer(dense);
    ReleaseLayer(packed);
  }
}

void TestFolderKeepsLayers() {
  char folder[] = "/tmp/tf_pof_delegate_test_XXXXXX";
  CHECK(mkdtemp(folder) != nullptr, "no temporary folder");
  static Weights weights;
  Fill(&weights, 32);
  CachedLayer* reference = Acquire(DenseSource(weights), false);
  int8_t expected[kOutputs];
  Run(reference, expected);
  ReleaseLayer(reference);
  for (LayerSource source : {DenseSource(weights), PackedSource(weights)}) {
    source.cache_dir = folder;
    for (const bool kept : {false, true}) {
      CachedLayer* layer;
      LayerOrigin origin;
      const char* problem;
      CHECK(AcquireLayer(source, nullptr, &layer, &origin, &problem) ==
                kTfPofOk,
            "%d", kept);
      // Plain C's are not for files.
      const bool found = kept && TfPofKernelCount() > 2;
      CHECK(origin == (found ? LayerOrigin::kFile : LayerOrigin::kPacked),
            "%d", kept);
      int8_t output[kOutputs];
      Run(layer, output);
      CHECK(memcmp(expected, output, kOutputs) == 0, "%d", kept);
      ReleaseLayer(layer);
    }
  }
  DIR* listed = opendir(folder);
  while (const dirent* entry = readdir(listed)) {
    unlinkat(dirfd(listed), entry->d_name, 0);
  }
  closedir(listed);
  CHECK(rmdir(folder) == 0, "%s", folder);
}

void TestCorruptPackedWeightsAreToldOf() {
  static Weights weights;
  Fill(&weights, 32);
  const auto problem_of = [](const LayerSource& source) {
    CachedLayer* layer;
    LayerOrigin origin;
    const char* problem;
    CHECK(AcquireLayer(source, nullptr, &layer, &origin, &problem) ==
                  kTfPofInvalidArgument &&
              layer == nullptr && problem != nullptr,
          "taken");
    return problem;
  };
  LayerSource source = PackedSource(weights);
  source.params.num_outputs = kOutputs - 1;
  CHECK(strstr(problem_of(source), "shape") != nullptr, "shape");
  source = PackedSource(weights);
  source.packed_bytes = 10;
  problem_of(source);
  weights.packed[kHeader + 5] ^= 1;
  const char* problem = problem_of(PackedSource(weights));
  CHECK(strstr(problem, "checksum") != nullptr, "%s", problem);
}

void TestOnlyFilesLosePages() {
  const size_t size = 1 << 16;
  char name[] = "/tmp/tf_pof_delegate_test_XXXXXX";
  const int file = mkstemp(name);
  CHECK(file >= 0, "no temporary file");
  unlink(name);
  char* text = Allocate<char>(size);
  memset(text, 'x', size);
  CHECK(write(file, text, size) == static_cast<ssize_t>(size), "write");
  const int protection[] = {PROT_READ, PROT_READ | PROT_WRITE};
  for (const int access : protection) {
    auto* bytes =
        static_cast<char*>(mmap(nullptr, size, access, MAP_PRIVATE, file, 0));
    if (access & PROT_WRITE) bytes[5] = bytes[size - 9] = 'y';
    FileMapping mapping = {};
    DropFilePages(bytes, size, &mapping);
    CHECK(mapping.is_file == !(access & PROT_WRITE), "%d", access);
    // What was written stays.
    CHECK(bytes[5] == (access & PROT_WRITE ? 'y' : 'x'), "%c", bytes[5]);
    CHECK(bytes[4] == 'x' && bytes[size - 1] == 'x', "lost");
    munmap(bytes, size);
  }
  FileMapping mapping = {};
  DropFilePages(text, size, &mapping);
  CHECK(!mapping.is_file && text[size / 2] == 'x', "memory was dropped");
  close(file);
  free(text);
}

bool Parse(std::initializer_list<const char*> pairs, DelegateOptions* options,
           char* error) {
  const char* keys[4];
  const char* values[4];
  size_t count = 0;
  for (const char* const* at = pairs.begin(); at != pairs.end(); at += 2) {
    keys[count] = at[0];
    values[count++] = at[1];
  }
  return ParseOptions(keys, values, count, options, error);
}

void TestOptions() {
  DelegateOptions options;
  char error[kMaxOptionError];
  CHECK(Parse({}, &options, error), "%s", error);
  CHECK(options.threads == 1 && options.tokens == 128 && !options.verbose &&
            !options.dry_run && strcmp(options.isa, "best") == 0,
        "defaults");
  CHECK(Parse({"threads", "4", "isa", "scalar", "min_sparsity", "0.25",
               "verbose", "1"},
              &options, error),
        "%s", error);
  CHECK(options.threads == 4 && strcmp(options.isa, "scalar") == 0 &&
            options.min_sparsity == 0.25 &&
            options.min_encoder_sparsity == 0.25 && options.verbose,
        "values");
  CHECK(Parse({"isa", "scalar"}, &options, error) &&
            options.min_encoder_sparsity == options.min_sparsity,
        "slow dense layers");
  static char long_name[5000];
  memset(long_name, 'k', sizeof(long_name) - 1);
  const char* bad[][2] = {{"threads", "257"},    {"threads", ""},
                          {"tokens", "12x"},     {"isa", "nothing"},
                          {"isa", long_name},    {long_name, "1"},
                          {"min_sparsity", "2"}, {"dry_run", "2"},
                          {"cache_dir", long_name}};
  for (const auto& pair : bad) {
    CHECK(!Parse({pair[0], pair[1]}, &options, error), "%s", pair[0]);
    CHECK(strncmp(error, "tf_pof: ", 8) == 0 && strlen(error) > 20, "%s",
          error);
  }
  CHECK(!Parse({nullptr, nullptr}, &options, error), "null");
}

void TestInstructionsOfAllKernels() {
  for (int i = 0; TfPofIsaName(i) != nullptr; ++i) {
    Isa isa;
    CHECK(FindIsa(TfPofIsaName(i), &isa), "%s", TfPofIsaName(i));
    // Matrices and permutations of bytes are of use in linear layers alone.
    if (isa == Isa::kI8mm) isa = Isa::kNeonDot;
    if (isa == Isa::kAvx512Vbmi) isa = Isa::kAvx512Vnni;
    CHECK(BestTransformerKernel(isa).isa == isa, "%s", TfPofIsaName(i));
  }
}

}  // namespace
}  // namespace tf_pof

int main() {
  tf_pof::TestEqualLayersAreShared();
  tf_pof::TestThreadsPackOnce();
  tf_pof::TestPackedEqualsDense();
  tf_pof::TestFolderKeepsLayers();
  tf_pof::TestCorruptPackedWeightsAreToldOf();
  tf_pof::TestOnlyFilesLosePages();
  tf_pof::TestOptions();
  tf_pof::TestInstructionsOfAllKernels();
  return 0;
}
