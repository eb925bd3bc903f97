#include "delegate_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

namespace tf_pof {
namespace {

// From benchmarks/results/kernels.md: with 16 tokens or more a layer of 40 %
// zeros takes 0.68 to 0.91 of dense LiteRT's time, one of 30 % no less than
// dense weights would.
constexpr double kMinSparsity = 0.4;

// An encoder of dense weights gains by its attention and layer norms, where
// dense layers are as fast as LiteRT's.
double MinEncoderSparsity(const char* name) {
  Isa isa;
  const bool fast = FindIsa(name, &isa) && isa >= Isa::kAvx512Vnni &&
                    Supported(Isa::kAvx512Vnni);
  return fast ? 0 : kMinSparsity;
}

bool ParseNumber(const char* text, long lowest, long highest, int* value) {
  char* end = nullptr;
  errno = 0;
  const long number = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || errno != 0 || number < lowest ||
      number > highest) {
    return false;
  }
  *value = static_cast<int>(number);
  return true;
}

bool ParseFlag(const char* text, bool* value) {
  int number;
  if (!ParseNumber(text, 0, 1, &number)) return false;
  *value = number == 1;
  return true;
}

bool ParseShare(const char* text, double* value) {
  char* end = nullptr;
  const double number = strtod(text, &end);
  if (*text == '\0' || *end != '\0' || !(number >= 0) || !(number <= 1)) {
    return false;
  }
  *value = number;
  return true;
}

bool ParseIsa(const char* text, char* isa, size_t size) {
  Isa found;
  if (strlen(text) >= size || !FindIsa(text, &found)) return false;
  strcpy(isa, text);
  return true;
}

}  // namespace

bool ParseOptions(const char* const* keys, const char* const* values,
                  size_t count, DelegateOptions* options,
                  char error[kMaxOptionError]) {
  *options = {};
  options->threads = 1;
  options->tokens = 128;
  options->min_sparsity = kMinSparsity;
  bool own = false;
  strcpy(options->isa, "best");
  for (size_t i = 0; i < count; ++i) {
    const char* key = keys[i] == nullptr ? "" : keys[i];
    const char* value = values[i] == nullptr ? "" : values[i];
    const char* wanted = nullptr;
    bool valid = true;
    if (strcmp(key, "threads") == 0) {
      valid = ParseNumber(value, 1, 256, &options->threads);
      wanted = "1 to 256";
    } else if (strcmp(key, "tokens") == 0) {
      valid = ParseNumber(value, 1, 1 << 20, &options->tokens);
      wanted = "1 to 1048576";
    } else if (strcmp(key, "verbose") == 0) {
      valid = ParseFlag(value, &options->verbose);
      wanted = "0 or 1";
    } else if (strcmp(key, "dry_run") == 0) {
      valid = ParseFlag(value, &options->dry_run);
      wanted = "0 or 1";
    } else if (strcmp(key, "profile") == 0) {
      valid = ParseFlag(value, &options->profile);
      wanted = "0 or 1";
    } else if (strcmp(key, "min_sparsity") == 0) {
      valid = ParseShare(value, &options->min_sparsity);
      own = true;
      wanted = "0 to 1";
    } else if (strcmp(key, "isa") == 0) {
      valid = ParseIsa(value, options->isa, sizeof(options->isa));
      wanted = "best, or a set of instructions that this processor has";
    } else if (strcmp(key, "cache_dir") == 0) {
      valid = strlen(value) < sizeof(options->cache_dir);
      if (valid) strcpy(options->cache_dir, value);
      wanted = "a path of at most 1023 characters";
    } else {
      snprintf(error, kMaxOptionError,
               "tf_pof: the delegate has no option \"%.64s\"; there are "
               "threads, isa, verbose, dry_run, profile, tokens, "
               "min_sparsity and cache_dir.",
               key);
      return false;
    }
    if (!valid) {
      snprintf(error, kMaxOptionError,
               "tf_pof: option %s must be %s, not \"%.64s\".", key, wanted,
               value);
      return false;
    }
  }
  options->min_encoder_sparsity =
      own ? options->min_sparsity : MinEncoderSparsity(options->isa);
  return true;
}

}  // namespace tf_pof
