// Packed layers in files: they compute the same, whatever is wrong with a file
// is noticed, and arrays that pass all checks do no harm.
#include "weights_file.h"

#include <dirent.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/layer_data.h"

namespace tf_pof {
namespace {

constexpr Kind kInt8 = kKinds[3];

// A folder that lives until the end of the test.
struct Folder {
  char path[64] = "/tmp/tf_pof_weights_file_test_XXXXXX";
  Hash key;

  Folder() {
    CHECK(mkdtemp(path) != nullptr, "no temporary folder");
    CHECK(OpenFolder(path, &key), "%s", path);
  }
  ~Folder() {
    DIR* folder = opendir(path);
    while (const dirent* entry = readdir(folder)) {
      unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
    rmdir(path);
  }
};

void RunLayer(const Data& d, const TfPofFullyConnected* layer, bool check) {
  const Case& c = d.shape;
  auto* output = Allocate<int8_t>(static_cast<size_t>(c.tokens) * c.outputs);
  auto* workspace = Allocate<uint8_t>(TfPofFullyConnectedWorkspace(layer, 1));
  CHECK(TfPofFullyConnectedRun(layer, c.tokens, d.input, kTfPofRows, output,
                               kTfPofRows, workspace, nullptr) == kTfPofOk,
        "run");
  if (check) {
    CheckOutput(d, kInt8, TfPofFullyConnectedKernel(layer), 1, output);
  }
  free(output);
  free(workspace);
}

TfPofFullyConnected* Pack(const Data& d, const char* kernel) {
  const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
  TfPofFullyConnected* layer;
  CHECK(TfPofFullyConnectedCreate(&params, kernel, d.shape.tokens, nullptr,
                                  &layer) == kTfPofOk,
        "%s", kernel);
  return layer;
}

const Case kCases[] = {
    {70, 37, 3, 0.3, kRandom, 5, 0, true},
    {64, 32, 20, 1.0, kRandom, 5, 0, true},
    {1700, 600, 2, 0.05, kRandom, -9, 0, true},
    {1030, 280, 70, 0.1, kBlocks4x1, 3, 1, false},
    {1100, 260, 3, 0.5, kBlocks4x1, 3, 0, true},
    {302, 261, 65, 0.8, kTwoOfFour, 5, 0, true},
};

void TestFilesComputeTheSame() {
  Folder folder;
  uint64_t number = 0;
  for (const Case& c : kCases) {
    Data d = MakeData(c);
    const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
    for (int i = 0; i < TfPofKernelCount(); ++i) {
      const char* kernel = TfPofKernelName(i);
      if (!Takes(d, kernel)) continue;
      const Hash name = {++number, 7};
      TfPofFullyConnected* layer = Pack(d, kernel);
      WriteLayer(folder.path, folder.key, name, layer);
      StoredArrays arrays;
      const bool kept = ListArrays(layer, &arrays);
      const size_t bytes = TfPofFullyConnectedBytes(layer);
      TfPofFullyConnectedDelete(layer);
      MappedFile file = {};
      CHECK(ReadLayer(folder.path, folder.key, name, params, c.tokens, &file,
                      &layer) == kept,
            "%s", kernel);
      if (!kept) continue;
      CHECK(strcmp(TfPofFullyConnectedKernel(layer), kernel) == 0 &&
                TfPofFullyConnectedBytes(layer) == bytes,
            "%s", kernel);
      RunLayer(d, layer, true);
      TfPofFullyConnectedDelete(layer);
      file.Unmap();
    }
    FreeData(&d);
  }
}

// Copies of arrays, each in memory of its size.
struct Copies {
  StoredArrays arrays;

  explicit Copies(const StoredArrays& from) {
    arrays = from;
    for (int i = 0; i < from.count; ++i) {
      const size_t bytes = from.arrays[i].bytes;
      auto* copy = Allocate<uint8_t>(bytes);
      if (bytes > 0) memcpy(copy, from.arrays[i].data, bytes);
      arrays.arrays[i].data = copy;
    }
  }
  ~Copies() {
    for (int i = 0; i < arrays.count; ++i) {
      free(const_cast<void*>(arrays.arrays[i].data));
    }
  }

  void Change(Random* random) {
    StoredArrays::Array& array =
        arrays.arrays[random->Between(0, arrays.count - 1)];
    if (array.bytes == 0) return;
    auto* bytes = static_cast<uint8_t*>(const_cast<void*>(array.data));
    const int at = random->Between(0, static_cast<int>(array.bytes) - 1);
    switch (random->Between(0, 4)) {
      case 0:
        bytes[at] = 0xFF;
        break;
      case 1:
        bytes[at] = static_cast<uint8_t>(bytes[at] + random->Between(1, 8));
        break;
      case 2:
        bytes[at / 8 * 8] ^= 1 << random->Between(0, 7);
        break;
      case 3:
        memmove(bytes + at / 4 * 4, bytes, Min<size_t>(array.bytes - at, 8));
        break;
      default:
        // Only ever shorter: what is behind is not there.
        array.bytes = random->Between(0, 3) == 0 ? at : array.bytes;
    }
  }
};

void TestHostileArraysDoNoHarm() {
  Random random = {5};
  int taken = 0, refused = 0;
  for (const Case& c : kCases) {
    Data d = MakeData(c);
    const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
    for (int i = 0; i < TfPofKernelCount(); ++i) {
      const char* kernel = TfPofKernelName(i);
      if (!Takes(d, kernel)) continue;
      TfPofFullyConnected* layer = Pack(d, kernel);
      StoredArrays arrays;
      const bool kept = ListArrays(layer, &arrays);
      for (int round = 0; kept && round < 60; ++round) {
        Copies copies(arrays);
        for (int j = random.Between(1, 3); j > 0; --j) copies.Change(&random);
        TfPofFullyConnected* changed;
        const TfPofStatus status = CreateLayer(
            params, kernel, c.tokens, nullptr, &copies.arrays, &changed);
        CHECK(status == kTfPofOk || status == kTfPofInvalidArgument, "%d",
              status);
        ++(status == kTfPofOk ? taken : refused);
        if (status == kTfPofOk) RunLayer(d, changed, false);
        TfPofFullyConnectedDelete(changed);
      }
      TfPofFullyConnectedDelete(layer);
    }
    FreeData(&d);
  }
  CHECK(TfPofKernelCount() == 2 || (taken > 50 && refused > 50), "%d, %d",
        taken, refused);
}

void OverwriteByte(const char* path, long at, int change) {
  FILE* file = fopen(path, "r+b");
  fseek(file, at, SEEK_SET);
  const int byte = fgetc(file);
  fseek(file, at, SEEK_SET);
  fputc(byte ^ change, file);
  fclose(file);
}

void TestWhatIsWrongIsNoticed() {
  Folder folder;
  Data d = MakeData(kCases[0]);
  const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
  TfPofFullyConnected* layer =
      Pack(d, TfPofKernelName(TfPofKernelCount() - 1));
  const Hash name = {1, 2};
  char path[128];
  snprintf(path, sizeof(path), "%s/%016x%016x.packed", folder.path, 2, 1);
  const auto found = [&](const Hash& key, const Hash& asked) {
    MappedFile file = {};
    TfPofFullyConnected* read;
    if (!ReadLayer(folder.path, key, asked, params, 3, &file, &read)) {
      CHECK(file.bytes == nullptr, "still mapped");
      return false;
    }
    TfPofFullyConnectedDelete(read);
    file.Unmap();
    return true;
  };
  WriteLayer(folder.path, folder.key, name, layer);
  CHECK(found(folder.key, name), "%s", path);
  CHECK(!found({3, 4}, name) && !found(folder.key, {1, 3}), "other keys");
  struct stat status;
  CHECK(stat(path, &status) == 0 && (status.st_mode & 0777) == 0600, "mode");
  for (long at = 0; at < status.st_size; ++at) {
    // Bytes between arrays are nobody's.
    OverwriteByte(path, at, 0x10);
    MappedFile file = {};
    TfPofFullyConnected* read;
    if (ReadLayer(folder.path, folder.key, name, params, 3, &file, &read)) {
      RunLayer(d, read, true);
      TfPofFullyConnectedDelete(read);
      file.Unmap();
      CHECK(at >= 136, "byte %ld", at);
    }
    OverwriteByte(path, at, 0x10);
  }
  chmod(path, 0620);
  CHECK(!found(folder.key, name), "others may write");
  chmod(path, 0600);
  TfPofFullyConnectedParams other = params;
  other.num_outputs -= 1;
  MappedFile file = {};
  TfPofFullyConnected* read;
  CHECK(!ReadLayer(folder.path, folder.key, name, other, 3, &file, &read),
        "another shape");
  for (const long size : {status.st_size - 64, 100L, 0L}) {
    CHECK(truncate(path, size) == 0 && !found(folder.key, name), "%ld", size);
  }
  WriteLayer(folder.path, folder.key, name, layer);
  CHECK(found(folder.key, name), "written anew");
  TfPofFullyConnectedDelete(layer);
  FreeData(&d);
}

void TestProcessesWriteAtOnce() {
  Folder folder;
  Data d = MakeData(kCases[0]);
  const TfPofFullyConnectedParams params = ParamsOf(d, kInt8);
  TfPofFullyConnected* layer =
      Pack(d, TfPofKernelName(TfPofKernelCount() - 1));
  const Hash name = {1, 2};
  pid_t children[2];
  for (pid_t& child : children) {
    child = fork();
    if (child != 0) continue;
    for (int i = 0; i < 100; ++i) {
      WriteLayer(folder.path, folder.key, name, layer);
    }
    _exit(0);
  }
  int found = 0;
  for (int i = 0; i < 200; ++i) {
    MappedFile file = {};
    TfPofFullyConnected* read;
    if (!ReadLayer(folder.path, folder.key, name, params, 3, &file, &read)) {
      CHECK(found == 0, "a whole file was there before");
      usleep(1000);
      continue;
    }
    ++found;
    RunLayer(d, read, true);
    TfPofFullyConnectedDelete(read);
    file.Unmap();
  }
  for (const pid_t child : children) {
    int status;
    waitpid(child, &status, 0);
    CHECK(status == 0, "%d", status);
  }
  CHECK(found > 0, "nothing was read");
  TfPofFullyConnectedDelete(layer);
  FreeData(&d);
}

void TestFolders() {
  Folder folder;
  char path[128];
  Hash key, again;
  snprintf(path, sizeof(path), "%s/a", folder.path);
  CHECK(OpenFolder(path, &key) && OpenFolder(path, &again) && key == again,
        "%s", path);
  CHECK(!(key == folder.key), "keys are secret");
  snprintf(path, sizeof(path), "%s/a/key", folder.path);
  CHECK(truncate(path, 3) == 0, "%s", path);
  snprintf(path, sizeof(path), "%s/a", folder.path);
  CHECK(OpenFolder(path, &again) && !(key == again), "a new key");
  // Under what is no folder.
  snprintf(path, sizeof(path), "%s/a/key/b", folder.path);
  CHECK(!OpenFolder(path, &key), "%s", path);
  snprintf(path, sizeof(path), "%s/a/key", folder.path);
  unlink(path);
  snprintf(path, sizeof(path), "%s/a", folder.path);
  rmdir(path);
}

struct Opening {
  const char* folder;
  pthread_barrier_t* together;
  Hash key;
};

void* Open(void* argument) {
  auto* opening = static_cast<Opening*>(argument);
  pthread_barrier_wait(opening->together);
  CHECK(OpenFolder(opening->folder, &opening->key), "%s", opening->folder);
  return nullptr;
}

void TestThreadsFindOneKey() {
  constexpr int kThreads = 4;
  for (int i = 0; i < 100; ++i) {
    Folder folder;
    char path[128];
    snprintf(path, sizeof(path), "%s/key", folder.path);
    unlink(path);
    pthread_barrier_t together;
    pthread_barrier_init(&together, nullptr, kThreads);
    pthread_t threads[kThreads];
    Opening openings[kThreads];
    for (int t = 0; t < kThreads; ++t) {
      openings[t] = {folder.path, &together, {}};
      pthread_create(&threads[t], nullptr, Open, &openings[t]);
    }
    for (const pthread_t thread : threads) pthread_join(thread, nullptr);
    pthread_barrier_destroy(&together);
    Hash kept;
    CHECK(OpenFolder(folder.path, &kept), "%s", folder.path);
    for (const Opening& opening : openings) {
      CHECK(opening.key == kept, "a key that is not kept");
    }
  }
}

void TestHash() {
  CHECK(MixPortable(0x123456789ABCDEFu, 0xFEDCBA9876543210u) ==
            (0x0121FA00AD77D742u ^ 0x2236D88FE5618CF0u),
        "written out");
  Random random = {3};
  for (int i = 0; i < 1000; ++i) {
    const uint64_t a = uint64_t{random.Bits()} << 32 | random.Bits();
    const uint64_t b = uint64_t{random.Bits()} << 32 | random.Bits();
    CHECK(Mix(a, b) == MixPortable(a, b), "%d", i);
  }
  CHECK(MixPortable(~0ull, ~0ull) == (1ull ^ (~0ull - 1)), "carries");
}

}  // namespace
}  // namespace tf_pof

int main() {
  tf_pof::TestHash();
  tf_pof::TestFilesComputeTheSame();
  tf_pof::TestHostileArraysDoNoHarm();
  tf_pof::TestWhatIsWrongIsNoticed();
  tf_pof::TestProcessesWriteAtOnce();
  tf_pof::TestFolders();
  tf_pof::TestThreadsFindOneKey();
  return 0;
}
