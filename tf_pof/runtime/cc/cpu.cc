// Which instructions the processor and the operating system allow.
#include <string.h>

#include "kernel.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace tf_pof {
namespace {

#if defined(__x86_64__)

struct Features {
  bool avx2;
  bool avx_vnni;
  bool avx512_vnni;
  bool avx512_vbmi;
};

Features Detect() {
  Features features = {};
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return features;
  constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27;
  if ((c & kOsxsave) == 0 || (c & kFma) == 0) return features;
  unsigned state, high;
  __asm__("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  constexpr unsigned kYmm = 0x6, kZmm = 0xe6;
  constexpr unsigned kBmi = 1u << 3, kAvx2 = 1u << 5;
  features.avx2 = (state & kYmm) == kYmm && (b & kBmi) && (b & kAvx2);
  // F, DQ, BW, VL.
  constexpr unsigned kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  constexpr unsigned kVbmi = 1u << 1, kVnni = 1u << 11;
  features.avx512_vnni = features.avx2 && (state & kZmm) == kZmm &&
                         (b & kAvx512) == kAvx512 && (c & kVnni);
  features.avx512_vbmi = features.avx512_vnni && (c & kVbmi);
  constexpr unsigned kAvxVnni = 1u << 4;
  if (features.avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    features.avx_vnni = a & kAvxVnni;
  }
  return features;
}

#endif

// The best first.
constexpr struct {
  const char* name;
  Isa isa;
} kNames[] = {
    {"avx512vbmi", Isa::kAvx512Vbmi},
    {"avx512vnni", Isa::kAvx512Vnni},
    {"avxvnni", Isa::kAvxVnni},
    {"avx2", Isa::kAvx2},
    {"i8mm", Isa::kI8mm},
    {"neondot", Isa::kNeonDot},
    {"neon", Isa::kNeon},
    {"scalar", Isa::kAny},
};

}  // namespace

bool Supported(Isa isa) {
  if (isa == Isa::kAny) return true;
#if defined(__x86_64__)
  // CPUID takes long in a virtual machine. Threads that race write the same.
  static int known = 0;
  int now = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (now == 0) {
    const Features features = Detect();
    now = 1 | features.avx2 << 1 | features.avx512_vnni << 2 |
          features.avx_vnni << 3 | features.avx512_vbmi << 4;
    __atomic_store_n(&known, now, __ATOMIC_RELAXED);
  }
  if (isa == Isa::kAvx2) return now & 2;
  if (isa == Isa::kAvx512Vnni) return now & 4;
  if (isa == Isa::kAvxVnni) return now & 8;
  if (isa == Isa::kAvx512Vbmi) return now & 16;
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return true;
#if defined(__linux__)
  constexpr unsigned long kDotProduct = 1ul << 20, kMatrices = 1ul << 13;
  const bool dot_product = getauxval(AT_HWCAP) & kDotProduct;
  if (isa == Isa::kNeonDot) return dot_product;
  if (isa == Isa::kI8mm) {
    return dot_product && (getauxval(AT_HWCAP2) & kMatrices);
  }
#endif
#endif
  return false;
}

bool FindIsa(const char* name, Isa* isa) {
  *isa = kBestIsa;
  if (name == nullptr || strcmp(name, "best") == 0) return true;
  for (const auto& known : kNames) {
    *isa = known.isa;
    if (strcmp(name, known.name) == 0) return Supported(known.isa);
  }
  return false;
}

}  // namespace tf_pof

const char* TfPofIsaName(int32_t index) {
  for (const auto& known : tf_pof::kNames) {
    if (tf_pof::Supported(known.isa) && index-- == 0) return known.name;
  }
  return nullptr;
}
