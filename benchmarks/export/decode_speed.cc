// Times the decoding of packed weights on one core.
//
//   decode_speed REPEATS FILE...
//
// Prints two numbers: CPU seconds for all of the files into dense rows and into
// lists of blocks, medians over the repetitions. Opening them (checksum,
// tables) is part of it; reading them from disk is not.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "packed_weights.h"

namespace {

struct File {
  size_t size;
  uint8_t* bytes;
};

File Read(const char* path) {
  FILE* stream = fopen(path, "rb");
  if (stream == nullptr || fseek(stream, 0, SEEK_END) != 0) exit(1);
  File file;
  file.size = static_cast<size_t>(ftell(stream));
  file.bytes = static_cast<uint8_t*>(malloc(file.size));
  rewind(stream);
  if (fread(file.bytes, 1, file.size, stream) != file.size) exit(1);
  fclose(stream);
  return file;
}

double Now() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * now.tv_nsec;
}

void Decode(const File& file, bool dense) {
  using namespace tf_pof;
  PackedWeights weights;
  PackedStatus status = OpenPacked(file.bytes, file.size, &weights);
  const size_t area =
      static_cast<size_t>(weights.block_rows) * weights.block_columns;
  const size_t most = static_cast<size_t>(weights.max_group_blocks);
  int8_t* rows = static_cast<int8_t*>(
      malloc(static_cast<size_t>(weights.group_rows) * weights.columns));
  PackedBlocks blocks;
  blocks.starts = static_cast<uint32_t*>(malloc(65 * sizeof(uint32_t)));
  blocks.columns = static_cast<uint32_t*>(malloc(most * sizeof(uint32_t)));
  blocks.values = static_cast<int8_t*>(malloc(most * area));
  for (int group = 0; group < weights.num_groups; ++group) {
    if (status != PackedStatus::kOk) break;
    status = dense ? DecodeRows(weights, group, rows)
                   : DecodeBlocks(weights, group, blocks);
  }
  if (status != PackedStatus::kOk) {
    fprintf(stderr, "%s\n", PackedMessage(status));
    exit(1);
  }
  free(rows);
  free(blocks.starts);
  free(blocks.columns);
  free(blocks.values);
}

int Compare(const void* a, const void* b) {
  const double x = *static_cast<const double*>(a);
  const double y = *static_cast<const double*>(b);
  return x < y ? -1 : x > y;
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 2 ? atoi(argv[1]) : 0;
  if (repeats < 1) return 2;
  File* files = static_cast<File*>(malloc(sizeof(File) * argc));
  for (int i = 2; i < argc; ++i) files[i] = Read(argv[i]);
  double* seconds = static_cast<double*>(malloc(sizeof(double) * repeats));
  for (int dense = 1; dense >= 0; --dense) {
    for (int repeat = 0; repeat < repeats; ++repeat) {
      const double start = Now();
      for (int i = 2; i < argc; ++i) Decode(files[i], dense != 0);
      seconds[repeat] = Now() - start;
    }
    qsort(seconds, static_cast<size_t>(repeats), sizeof(double), Compare);
    printf("%.6f\n", seconds[repeats / 2]);
  }
  return 0;
}
