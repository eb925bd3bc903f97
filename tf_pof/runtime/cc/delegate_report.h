// What the option `verbose` prints.
#ifndef TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_
#define TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_

#include "delegate_options.h"
#include "match.h"

namespace tf_pof {

// Which nodes run here, as what, and which do not.
void ReportMatch(const Match& match, const DelegateOptions& options,
                 int partitions);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_DELEGATE_REPORT_H_
