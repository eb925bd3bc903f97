// Packed layers in files of a folder, which processes map and share.
//
// A file is named by the hash of what its layer was made of, with a key that
// lies in the folder, so that no model can be made to take the place of
// another. It is written under another name and renamed, and checked whole
// when it is read: what does not fit is as if it were not there. Files that
// somebody else may write are not read at all; one that is cut while it is
// mapped would end the process, and only its owner can do that.
#ifndef TF_POF_RUNTIME_CC_WEIGHTS_FILE_H_
#define TF_POF_RUNTIME_CC_WEIGHTS_FILE_H_

#include "hash.h"
#include "stored.h"

namespace tf_pof {

inline constexpr int kMaxFolder = 1024;

// A file in memory; all zero for none.
struct MappedFile {
  void* bytes;
  size_t size;

  void Unmap();
};

// Makes the folder, and its key, if they are not there. False after a warning,
// the first time, if it can neither be read nor be made.
bool OpenFolder(const char* folder, Hash* key);

// The layer of that name, for `params`; false if it is not there or does not
// fit. `file` must outlive it.
bool ReadLayer(const char* folder, const Hash& key, const Hash& name,
               const TfPofFullyConnectedParams& params, int32_t tokens,
               MappedFile* file, TfPofFullyConnected** layer);

// Keeps a layer if it is of a kind for files. A warning, the first time, if it
// cannot be written.
void WriteLayer(const char* folder, const Hash& key, const Hash& name,
                const TfPofFullyConnected* layer);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WEIGHTS_FILE_H_
