// Models from bytes under the delegate: arguments are files for fake_tflite.h.
// Those named seed_* are taken whole and run; changed copies of all do no harm.
#include <pthread.h>
#include <string.h>

#include "crc32.h"
#include "delegate.h"
#include "tests/fake_tflite.h"
#include "tests/model_fuzz.h"

namespace tf_pof {
namespace {

constexpr int kChanges = 100;

struct Bytes {
  uint8_t* data;
  size_t size;
};

Bytes ReadFile(const char* path) {
  FILE* file = fopen(path, "rb");
  CHECK(file != nullptr, "%s", path);
  fseek(file, 0, SEEK_END);
  const size_t size = ftell(file);
  rewind(file);
  const Bytes bytes = {Allocate<uint8_t>(size), size};
  CHECK(fread(bytes.data, 1, size, file) == size, "%s", path);
  fclose(file);
  return bytes;
}

// One of several threads that have a model each and share a delegate.
struct User {
  pthread_t thread;
  TfLiteDelegate* delegate;
  Bytes bytes;
  uint32_t outputs;  // a checksum of all of them
};

uint32_t OutputsOf(const FakeModel& model) {
  uint32_t sum = 0;
  for (size_t i = 0; i < model.records.size; ++i) {
    const TfLiteTensor& tensor = model.context.tensors[i];
    if (!(model.records.data[i].flags & FakeTensor::kOutput)) continue;
    const auto* data = static_cast<const uint8_t*>(tensor.data.data);
    sum = sum * 31 + Crc32(data, tensor.bytes);
  }
  return sum;
}

void* Use(void* pointer) {
  User* user = static_cast<User*>(pointer);
  for (int i = 0; i < 3; ++i) {
    FakeModel model = {};
    CHECK(model.Read(user->bytes.data, user->bytes.size) &&
              model.Apply(user->delegate) == kTfLiteOk &&
              model.Allocate() == kTfLiteOk,
          "%s", model.error);
    for (int call = 0; call < 3; ++call) {
      CHECK(model.Invoke() == kTfLiteOk, "%s", model.error);
      const uint32_t outputs = OutputsOf(model);
      CHECK(i + call == 0 || user->outputs == outputs, "outputs change");
      user->outputs = outputs;
    }
    model.Free();
  }
  return nullptr;
}

void TestThreadsShareDelegateAndWeights(Bytes bytes) {
  const char* keys[] = {"threads"};
  const char* values[] = {"2"};
  TfLiteDelegate* delegate = TfPofDelegateCreate(keys, values, 1, nullptr);
  User users[4] = {};
  for (User& user : users) {
    user.delegate = delegate;
    user.bytes = bytes;
    pthread_create(&user.thread, nullptr, Use, &user);
  }
  for (User& user : users) {
    pthread_join(user.thread, nullptr);
    CHECK(user.outputs == users[0].outputs, "threads differ");
  }
  TfPofDelegateDelete(delegate);
}

void TestFile(const char* path) {
  const Bytes bytes = ReadFile(path);
  const size_t size = bytes.size;
  const ModelRun run = RunModel(bytes.data, size);
  if (strstr(path, "/seed_") != nullptr) {
    CHECK(run.delegated == 1 && run.planned <= 7, "%s: %d of %d nodes", path,
          run.delegated, run.planned);
    CHECK(run.calls == 2, "%s: %d calls", path, run.calls);
    TestThreadsShareDelegateAndWeights(bytes);
  }
  Random random = {size};
  for (int i = 0; i < kChanges; ++i) {
    auto* changed = Allocate<uint8_t>(size);
    memcpy(changed, bytes.data, size);
    for (int j = random.Between(0, 2); j >= 0; --j) {
      ChangeModel(changed, size, &random);
    }
    RunModel(changed, size);
    free(changed);
  }
  free(bytes.data);
}

}  // namespace
}  // namespace tf_pof

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) tf_pof::TestFile(argv[i]);
  return 0;
}
