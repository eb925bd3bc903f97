#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights_cache.h"

namespace tf_pof {
namespace {

// Reads /proc/self/maps for the mapping that `address` is in.
FileMapping FindMapping(uintptr_t address) {
  FileMapping found = {};
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return found;
  char line[512];
  bool starts = true;  // a line; paths may be longer than what is read at once
  while (fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long begin, end, inode;
    char access[5];
    const bool whole = starts;
    starts = strchr(line, '\n') != nullptr;
    if (whole &&
        sscanf(line, "%lx-%lx %4s %*s %*s %lu", &begin, &end, access, &inode) ==
            4 &&
        begin <= address && address < end) {
      found = {begin, end, inode != 0 && access[1] != 'w'};
      break;
    }
  }
  fclose(maps);
  return found;
}

}  // namespace

void DropFilePages(const void* bytes, size_t size, FileMapping* mapping) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(bytes);
  if (first < mapping->begin || first >= mapping->end) {
    *mapping = FindMapping(first);
  }
  if (!mapping->is_file || size > mapping->end - first) return;
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  const uintptr_t begin = (first + page - 1) / page * page;
  const uintptr_t end = (first + size) / page * page;
  if (begin < end) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

}  // namespace tf_pof
