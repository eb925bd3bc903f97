#include "weights_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tf_pof {
namespace {

constexpr char kMagic[8] = {'T', 'P', 'O', 'F', 'P', 'A', 'C', 'K'};
constexpr int kMaxPath = kMaxFolder + 96;

struct Header {
  char magic[sizeof(kMagic)];
  uint32_t version;
  uint32_t count;  // of arrays
  Hash name;
  Hash checksum;  // of all behind it
  uint64_t file_bytes;
  char kernel[32];
  uint64_t bytes[StoredArrays::kMax];
};

constexpr size_t kChecked = offsetof(Header, file_bytes);

size_t RoundUp(size_t bytes) { return CeilDiv(bytes, kCacheLine) * kCacheLine; }

constexpr size_t kFirstArray =
    (sizeof(Header) + kCacheLine - 1) / kCacheLine * kCacheLine;

// To the user, once a process: everything works, if slower.
void Warn(const char* folder) {
  static int warned = 0;
  const int error = errno;
  if (__atomic_exchange_n(&warned, 1, __ATOMIC_RELAXED) != 0) return;
  fprintf(stderr,
          "tf_pof: packed weights are not kept in the cache_dir %s (%s); "
          "models load as without it.\n",
          folder, strerror(error));
}

void PathOf(const char* folder, const char* file, char path[kMaxPath]) {
  snprintf(path, kMaxPath, "%s/%s", folder, file);
}

void NameOf(const Hash& name, char text[48]) {
  snprintf(text, 48, "%016llx%016llx.packed",
           static_cast<unsigned long long>(name.high),
           static_cast<unsigned long long>(name.low));
}

bool MakeFolder(const char* folder) {
  char path[kMaxPath];
  snprintf(path, sizeof(path), "%s", folder);
  for (char* at = path; *at != '\0'; ++at) {
    if (*at != '/' || at == path) continue;
    *at = '\0';
    mkdir(path, 0700);
    *at = '/';
  }
  return mkdir(path, 0700) == 0 || errno == EEXIST;
}

// A regular file that nobody but this user, or root, could have written; -1 if
// it is none.
int OpenOwn(const char* path, size_t* size) {
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return -1;
  struct stat found;
  if (fstat(file, &found) == 0 && S_ISREG(found.st_mode) &&
      (found.st_uid == geteuid() || found.st_uid == 0) &&
      (found.st_mode & (S_IWGRP | S_IWOTH)) == 0 && found.st_size > 0 &&
      static_cast<uint64_t>(found.st_size) < SIZE_MAX) {
    *size = static_cast<size_t>(found.st_size);
    return file;
  }
  close(file);
  return -1;
}

// Begins a file that gets its name when it is whole; -1 if it cannot be.
int CreateTemporary(const char* folder, char path[kMaxPath]) {
  PathOf(folder, "XXXXXX.tmp", path);
  return mkostemps(path, static_cast<int>(strlen(".tmp")), O_CLOEXEC);
}

bool WriteAll(int file, const void* bytes, size_t size) {
  const auto* at = static_cast<const uint8_t*>(bytes);
  while (size > 0) {
    const ssize_t written = write(file, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

// Closes the file; it gets its name if it is whole, else it goes.
bool Finish(int file, bool whole, const char* temporary, const char* path) {
  const bool closed = close(file) == 0;
  if (whole && closed && rename(temporary, path) == 0) return true;
  const int error = errno;
  unlink(temporary);
  errno = error;
  return false;
}

bool ReadKey(const char* path, Hash* key) {
  size_t size;
  const int file = OpenOwn(path, &size);
  if (file < 0) return false;
  const bool fine = size == sizeof(*key) &&
                    read(file, key, size) == static_cast<ssize_t>(size);
  close(file);
  return fine;
}

bool MakeKey(const char* folder, const char* path) {
  Hash key;
  const int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  if (random < 0) return false;
  const bool fine =
      read(random, &key, sizeof(key)) == static_cast<ssize_t>(sizeof(key));
  close(random);
  char temporary[kMaxPath];
  const int file = fine ? CreateTemporary(folder, temporary) : -1;
  return file >= 0 &&
         Finish(file, WriteAll(file, &key, sizeof(key)), temporary, path);
}

Hash ChecksumOf(const Hash& key, const Header& header,
                const StoredArrays& arrays) {
  Hasher hasher(key);
  hasher.Add(reinterpret_cast<const uint8_t*>(&header) + kChecked,
             sizeof(header) - kChecked);
  for (int i = 0; i < arrays.count; ++i) {
    hasher.Add(arrays.arrays[i].data, arrays.arrays[i].bytes);
  }
  return hasher.Result();
}

// Finds the arrays of a file; false if it is not what its name says.
bool FindArrays(const uint8_t* bytes, size_t size, const Hash& key,
                const Hash& name, Header* header, StoredArrays* arrays) {
  if (size < kFirstArray) return false;
  memcpy(header, bytes, sizeof(*header));
  if (memcmp(header->magic, kMagic, sizeof(kMagic)) != 0 ||
      header->version != kStoredVersion || !(header->name == name) ||
      header->file_bytes != size || header->count > StoredArrays::kMax ||
      memchr(header->kernel, '\0', sizeof(header->kernel)) == nullptr) {
    return false;
  }
  *arrays = {};
  size_t at = kFirstArray;
  for (uint32_t i = 0; i < header->count; ++i) {
    if (header->bytes[i] > size - at) return false;
    const size_t array = static_cast<size_t>(header->bytes[i]);
    arrays->arrays[arrays->count++] = {bytes + at, array};
    if (RoundUp(array) > size - at) return false;
    at += RoundUp(array);
  }
  return at == size && ChecksumOf(key, *header, *arrays) == header->checksum;
}

bool WriteArrays(int file, const Header& header, const StoredArrays& arrays) {
  static const uint8_t zeros[kCacheLine] = {};
  if (!WriteAll(file, &header, sizeof(header)) ||
      !WriteAll(file, zeros, kFirstArray - sizeof(header))) {
    return false;
  }
  for (int i = 0; i < arrays.count; ++i) {
    const size_t bytes = arrays.arrays[i].bytes;
    if (!WriteAll(file, arrays.arrays[i].data, bytes) ||
        !WriteAll(file, zeros, RoundUp(bytes) - bytes)) {
      return false;
    }
  }
  return true;
}

}  // namespace

void MappedFile::Unmap() {
  if (bytes != nullptr) munmap(bytes, size);
  *this = {};
}

bool OpenFolder(const char* folder, Hash* key) {
  char path[kMaxPath];
  PathOf(folder, "key", path);
  if (ReadKey(path, key)) return true;
  if (MakeFolder(folder)) {
    // Of threads and processes that come at once one makes the key: what was
    // kept with another's would never be found again.
    const int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock >= 0) flock(lock, LOCK_EX);
    const bool found =
        ReadKey(path, key) || (MakeKey(folder, path) && ReadKey(path, key));
    const int error = errno;
    if (lock >= 0) close(lock);
    errno = error;
    if (found) return true;
  }
  Warn(folder);
  return false;
}

bool ReadLayer(const char* folder, const Hash& key, const Hash& name,
               const TfPofFullyConnectedParams& params, int32_t tokens,
               MappedFile* file, TfPofFullyConnected** layer) {
  char text[48], path[kMaxPath];
  NameOf(name, text);
  PathOf(folder, text, path);
  size_t size;
  const int opened = OpenOwn(path, &size);
  if (opened < 0) return false;
  void* bytes = mmap(nullptr, size, PROT_READ, MAP_SHARED, opened, 0);
  close(opened);
  if (bytes == MAP_FAILED) return false;
  *file = {bytes, size};
  Header header;
  StoredArrays arrays;
  if (FindArrays(static_cast<const uint8_t*>(bytes), size, key, name, &header,
                 &arrays) &&
      CreateLayer(params, header.kernel, tokens, nullptr, &arrays, layer) ==
          kTfPofOk) {
    return true;
  }
  file->Unmap();
  return false;
}

void WriteLayer(const char* folder, const Hash& key, const Hash& name,
                const TfPofFullyConnected* layer) {
  StoredArrays arrays;
  if (!ListArrays(layer, &arrays)) return;
  Header header = {};
  memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kStoredVersion;
  header.count = static_cast<uint32_t>(arrays.count);
  header.name = name;
  snprintf(header.kernel, sizeof(header.kernel), "%s",
           TfPofFullyConnectedKernel(layer));
  header.file_bytes = kFirstArray;
  for (int i = 0; i < arrays.count; ++i) {
    header.bytes[i] = arrays.arrays[i].bytes;
    header.file_bytes += RoundUp(arrays.arrays[i].bytes);
  }
  header.checksum = ChecksumOf(key, header, arrays);
  char text[48], path[kMaxPath], temporary[kMaxPath];
  NameOf(name, text);
  PathOf(folder, text, path);
  const int file = CreateTemporary(folder, temporary);
  if (file < 0 ||
      !Finish(file, WriteArrays(file, header, arrays), temporary, path)) {
    Warn(folder);
  }
}

}  // namespace tf_pof
