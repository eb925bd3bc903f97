// Packed layers, shared by all interpreters, subgraphs and threads of the
// process that use the same ones.
//
// A layer is found by a hash of all it was made of, 128 bits with a key of the
// process, so that no file can be made to collide with another. It lives until
// the last user releases it. If the source has a folder, layers are kept in
// files there too; see weights_file.h.
#ifndef TF_POF_RUNTIME_CC_WEIGHTS_CACHE_H_
#define TF_POF_RUNTIME_CC_WEIGHTS_CACHE_H_

#include "fully_connected.h"

namespace tf_pof {

// Where weights come from: `params.weights`, or packed bytes, and then
// `params.weights` is null.
struct LayerSource {
  TfPofFullyConnectedParams params;
  const void* packed;
  size_t packed_bytes;
  // Room for all weights, which packed bytes then are decoded to once; or null,
  // and parts of them are decoded when they are needed.
  int8_t* scratch;
  int tokens;
  const char* cache_dir;  // of files of packed layers, or null
};

enum class LayerOrigin { kPacked, kShared, kFile };

struct CachedLayer;

// Returns the layer, packing it if nobody did; `*origin` says where it is from.
// After an error, `*problem` may be what is wrong with packed bytes, a
// sentence that lives forever.
TfPofStatus AcquireLayer(const LayerSource& source, TfPofThreadPool* pool,
                         CachedLayer** layer, LayerOrigin* origin,
                         const char** problem);
void ReleaseLayer(CachedLayer* layer);  // null is fine
const TfPofFullyConnected* Get(const CachedLayer* layer);

// Lets the system take back the memory of bytes that are a file's, mapped and
// never written: they are read from the file again if they are needed again.
// Nothing happens to other memory. `mapping` begins as all zero and remembers
// the last mapping, so that many ranges of one file are found quickly.
struct FileMapping {
  uintptr_t begin;
  uintptr_t end;
  bool is_file;
};
void DropFilePages(const void* bytes, size_t size, FileMapping* mapping);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_WEIGHTS_CACHE_H_
