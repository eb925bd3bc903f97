/* The delegate as a program in C has it: delegate.h and the library alone. */
#include "delegate.h"

#include <stdio.h>
#include <string.h>

/* fake_c.cc: loads a model, gives it to the delegate and calls it. Null if the
   delegate does not take it whole, or after an error. */
void* FakeModelOpen(struct TfLiteDelegate* delegate, const char* path);
void FakeModelClose(void* model);

static char reported[512];

static void Report(const char* sentence) {
  snprintf(reported, sizeof(reported), "%s", sentence);
}

static int64_t linear_calls;

static void Count(void* context, const TfPofProfileStep* step) {
  *(int*)context += 1;
  if (strcmp(step->kind, "linear") == 0) linear_calls += step->calls;
}

static int Fail(const char* what, const char* path) {
  fprintf(stderr, "c_api_test: %s: %s: %s\n", what, path, reported);
  return 1;
}

int main(int argc, char** argv) {
  const char* keys[] = {"threads", "profile"};
  const char* values[] = {"2", "1"};
  const char* wrong[] = {"0", "1"};
  int i, steps = 0;
  void* model;
  struct TfLiteDelegate* delegate = TfPofDelegateCreate(keys, wrong, 2, Report);
  if (delegate != NULL || strstr(reported, "threads must be 1 to 256") == NULL)
    return Fail("a wrong option", wrong[0]);
  if (TfPofDelegateCreate(keys, wrong, 1, NULL) != NULL)
    return Fail("a wrong option", "without a reporter");
  TfPofDelegateDelete(NULL);
  for (i = 1; i < argc; ++i) {
    delegate = TfPofDelegateCreate(keys, values, 2, Report);
    if (delegate == NULL) return Fail("no delegate", argv[i]);
    model = FakeModelOpen(delegate, argv[i]);
    if (model == NULL) return Fail("no model", argv[i]);
    TfPofDelegateProfile(delegate, Count, &steps);
    FakeModelClose(model);
    TfPofDelegateDelete(delegate);
  }
  if (argc > 1 && (steps == 0 || linear_calls == 0))
    return Fail("no profile", argv[1]);
  delegate = tflite_plugin_create_delegate(NULL, NULL, 0, NULL);
  if (delegate == NULL) return Fail("no delegate", "of the plugin");
  tflite_plugin_destroy_delegate(delegate);
  return 0;
}
