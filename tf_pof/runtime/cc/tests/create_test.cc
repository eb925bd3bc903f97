// Where a layer's weights come from, which instructions are used, and what is
// refused.
#include "tests/layer_data.h"

namespace {

void TestRowSource() {
  TfPofThreadPool* pool = TfPofThreadPoolCreate(3);
  for (const auto& shape : {Case{70, 37, 5, 0.3, kRandom, 5, 0, true},
                            Case{1700, 600, 7, 0.1, kRandom, -9, 0, true}}) {
    Data d = MakeData(shape);
    for (int i = 0; i <= TfPofKernelCount(); ++i) {
      TestKind(d, kKinds[3], TfPofKernelName(i), pool, true);
      // An error on the way is the caller's to know, whatever was packed.
      TfPofFullyConnectedParams params = ParamsOf(d, kKinds[3]);
      Source source = {&d, shape.outputs - 1};
      params.weights = nullptr;
      params.read_rows = ReadRows;
      params.read_context = &source;
      TfPofFullyConnected* layer;
      CHECK(TfPofFullyConnectedCreate(&params, TfPofKernelName(i), 1, pool,
                                      &layer) == kTfPofInvalidArgument &&
                layer == nullptr,
            "%d", i);
    }
    FreeData(&d);
  }
  TfPofThreadPoolDelete(pool);
}

void TestIsa() {
  // Without zeros: each set has a kernel for that.
  Data d = MakeData({200, 40, 3, 1.0, kRandom, 5, 0, true});
  TfPofFullyConnectedParams params = ParamsOf(d, kKinds[3]);
  int count = 0;
  for (; TfPofIsaName(count) != nullptr; ++count) {
    params.isa = TfPofIsaName(count);
    TfPofFullyConnected* layer;
    CHECK(TfPofFullyConnectedCreate(&params, nullptr, 128, nullptr, &layer) ==
              kTfPofOk,
          "%s", params.isa);
    const char* kernel = TfPofFullyConnectedKernel(layer);
    const char* last = strrchr(kernel, '_') + 1;
    // VBMI adds one kernel to those of VNNI.
    const char* wanted =
        strcmp(params.isa, "avx512vbmi") == 0 ? "avx512vnni" : params.isa;
    CHECK(strcmp(last, wanted) == 0, "%s for %s", kernel, params.isa);
    TfPofFullyConnectedDelete(layer);
  }
  CHECK(count >= 1 && strcmp(TfPofIsaName(count - 1), "scalar") == 0, "%d",
        count);
  TfPofFullyConnected* layer;
  for (const char* isa : {"", "avx", "AVX2", "neondot2"}) {
    params.isa = isa;
    CHECK(TfPofFullyConnectedCreate(&params, nullptr, 128, nullptr, &layer) ==
              kTfPofNoKernel,
          "%s", isa);
  }
  params.isa = "best";
  CHECK(TfPofFullyConnectedCreate(&params, nullptr, 128, nullptr, &layer) ==
            kTfPofOk,
        "best");
  TfPofFullyConnectedDelete(layer);
  // A kernel that its instructions do not allow.
  params.isa = "scalar";
  const char* best = TfPofKernelName(TfPofKernelCount() - 1);
  CHECK(TfPofKernelCount() == 2 ||
            TfPofFullyConnectedCreate(&params, best, 128, nullptr, &layer) ==
                kTfPofNoKernel,
        "%s", best);
  FreeData(&d);
}

// Three weights of one group are too many for a kernel of 2:4, wherever they
// are, and leave it out of the choice.
void TestCrowdedGroups() {
  constexpr int kInputs = 131, kOutputs = 263;
  const int places[][2] = {{0, 0}, {5, 60}, {255, 124}, {262, 128}};
  for (const auto& place : places) {
    Data d = MakeData({kInputs, kOutputs, 3, 1.0, kTwoOfFour, 5, 0, true});
    memset(d.weights + place[0] * kInputs + place[1], -1, 3);
    SetSums(&d);
    for (int i = 0; i <= TfPofKernelCount(); ++i) {
      const char* kernel = TfPofKernelName(i);
      CHECK(kernel == nullptr || Takes(d, kernel) == (kernel[1] != ':'), "%s",
            kernel);
      TestKind(d, kKinds[3], kernel, nullptr);
      TestKind(d, kKinds[3], kernel, nullptr, true);
    }
    FreeData(&d);
  }
}

void TestInvalidArguments() {
  const int8_t weight = 1;
  const float scale = 1.0f;
  TfPofFullyConnectedParams good = {};
  good.num_inputs = good.num_outputs = good.num_weight_scales = 1;
  good.weights = &weight;
  good.weight_scales = &scale;
  good.input_scale = good.output_scale = 1.0f;
  TfPofFullyConnected* layer;
  auto status = [&](const TfPofFullyConnectedParams& params, const char* kernel,
                    int tokens) {
    const TfPofStatus result =
        TfPofFullyConnectedCreate(&params, kernel, tokens, nullptr, &layer);
    CHECK((layer != nullptr) == (result == kTfPofOk), "%d", result);
    TfPofFullyConnectedDelete(layer);
    return result;
  };
  CHECK(status(good, nullptr, 1) == kTfPofOk, "good");
  CHECK(status(good, "no_such_kernel", 1) == kTfPofNoKernel, "name");
  CHECK(status(good, nullptr, 0) == kTfPofInvalidArgument, "tokens");
  TfPofFullyConnectedParams bad = good;
  bad.num_inputs = 0;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "no inputs");
  bad = good;
  bad.num_inputs = bad.num_outputs = 1 << 17;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "too large");
  bad = good;
  bad.input_zero_point = 128;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "zero point");
  bad = good;
  const float nan_scale = NAN;
  bad.weight_scales = &nan_scale;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "NaN scale");
  bad = good;
  bad.output_scale = 0.0f;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "output scale");
  bad = good;
  bad.num_weight_scales = 2;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "scales");
  bad = good;
  bad.weights = nullptr;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "no weights");
  bad = good;
  bad.read_rows = ReadRows;
  CHECK(status(bad, nullptr, 1) == kTfPofInvalidArgument, "two sources");
}

}  // namespace

int main() {
  TestRowSource();
  TestIsa();
  TestCrowdedGroups();
  TestInvalidArguments();
  return 0;
}
