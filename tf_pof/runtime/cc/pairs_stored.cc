// The arrays of "pairs" kernels in files. Places follow from sizes alone: only
// picks lead to memory.
#include "pairs.h"
#include "stored.h"

namespace tf_pof {

void ListPairs(const void* packed, StoredArrays* arrays) {
  const auto& p = *static_cast<const Pairs*>(packed);
  arrays->Add(p.bias);
  arrays->Add(p.stream);
}

bool TakePairs(const StoredArrays& arrays, Pairs* p) {
  if (!arrays.Take(0, p->outputs, &p->bias) ||
      !arrays.Take(1, p->StreamBytes(), &p->stream)) {
    return false;
  }
  for (size_t at = 0; at < p->stream.size; at += p->BlockBytes()) {
    // Of two groups either may be led to either.
    for (int g = 0; g < kBlockGroups; ++g) {
      const int pick = p->stream.data[at + g];
      if (pick >= 2 * kSecondPick || pick % kPickStep != 0) return false;
    }
  }
  return true;
}

}  // namespace tf_pof
