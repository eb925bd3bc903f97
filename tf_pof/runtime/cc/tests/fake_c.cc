// A model of fake_tflite.h for programs in C.
#include "tests/fake_tflite.h"
#include "tests/testing.h"

namespace {

struct Opened {
  tf_pof::FakeModel model;
  uint8_t bytes[1 << 16];
};

}  // namespace

extern "C" void FakeModelClose(void* opened) {
  static_cast<Opened*>(opened)->model.Free();
  free(opened);
}

extern "C" void* FakeModelOpen(TfLiteDelegate* delegate, const char* path) {
  FILE* file = fopen(path, "rb");
  CHECK(file != nullptr, "%s", path);
  auto* opened = static_cast<Opened*>(calloc(1, sizeof(Opened)));
  const size_t size = fread(opened->bytes, 1, sizeof(opened->bytes), file);
  fclose(file);
  tf_pof::FakeModel& model = opened->model;
  if (model.Read(opened->bytes, size) && model.Apply(delegate) == kTfLiteOk &&
      model.Allocate() == kTfLiteOk && model.Invoke() == kTfLiteOk &&
      model.NumDelegated() == 1) {
    return opened;
  }
  fprintf(stderr, "%s: %s\n", path, model.error);
  FakeModelClose(opened);
  return nullptr;
}
