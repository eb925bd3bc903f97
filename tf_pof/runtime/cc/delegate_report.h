// What the option `verbose` prints.
#ifndef TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_
#define TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_

#include "delegate_options.h"
#include "match.h"
#include "weights_cache.h"

namespace tf_pof {

// For users.
const char* StepName(StepKind kind);

// Which nodes run here, as what, and which do not.
void ReportMatch(const Match& match, const DelegateOptions& options,
                 int partitions);

// The kernel of a layer, and why.
void ReportLayer(const char* name, const LinearParams& linear,
                 const TfPofFullyConnected* layer, LayerOrigin origin,
                 const DelegateOptions& options);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_
