// 128-bit hashes with a secret key: who does not know it cannot make two things
// that collide.
#ifndef TF_POF_RUNTIME_CC_HASH_H_
#define TF_POF_RUNTIME_CC_HASH_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace tf_pof {

struct Hash {
  uint64_t low;
  uint64_t high;

  bool operator==(const Hash& other) const {
    return low == other.low && high == other.high;
  }
};

// 64 x 64 to 128 bits, folded; for compilers without such integers.
inline uint64_t MixPortable(uint64_t a, uint64_t b) {
  const uint64_t a_low = static_cast<uint32_t>(a), a_high = a >> 32;
  const uint64_t b_low = static_cast<uint32_t>(b), b_high = b >> 32;
  const uint64_t first = a_high * b_low, second = a_low * b_high;
  const uint64_t carry = (a_low * b_low >> 32) +
                         static_cast<uint32_t>(first) +
                         static_cast<uint32_t>(second);
  const uint64_t high =
      a_high * b_high + (first >> 32) + (second >> 32) + (carry >> 32);
  return a * b ^ high;
}

inline uint64_t Mix(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
#else
  return MixPortable(a, b);
#endif
}

// Two hashes of the multiply-and-fold kind (as wyhash is), side by side.
class Hasher {
 public:
  explicit Hasher(const Hash& key) {
    // Digits of pi keep the keys from being zero.
    a_ = key_a_ = Mix(key.low ^ 0x243F6A8885A308D3, 0x13198A2E03707345);
    b_ = key_b_ = Mix(key.high ^ 0xA4093822299F31D1, 0x082EFA98EC4E6C89);
  }

  void Add(const void* bytes, size_t size) {
    const auto* at = static_cast<const uint8_t*>(bytes);
    uint64_t word[2];
    size_t left = size;
    for (; left >= sizeof(word); left -= sizeof(word)) {
      memcpy(word, at, sizeof(word));
      Add(word[0], word[1]);
      at += sizeof(word);
    }
    word[0] = word[1] = 0;
    if (left > 0) memcpy(word, at, left);
    Add(word[0], word[1]);
    Add(uint64_t{size}, uint64_t{bytes == nullptr});
  }

  template <typename T>
  void AddValue(const T& value) {
    Add(&value, sizeof(value));
  }

  Hash Result() const {
    return {Mix(a_ ^ key_b_, 0x452821E638D01377),
            Mix(b_ ^ key_a_, 0xBE5466CF34E90C6D)};
  }

 private:
  void Add(uint64_t x, uint64_t y) {
    a_ = Mix(a_ ^ x, key_a_ ^ y);
    b_ = Mix(b_ ^ y, key_b_ ^ x);
  }

  uint64_t key_a_, key_b_, a_, b_;
};

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_HASH_H_
