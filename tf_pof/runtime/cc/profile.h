// What the option `profile` measures: how long each step of a plan takes.
#ifndef TF_POF_RUNTIME_CC_PROFILE_H_
#define TF_POF_RUNTIME_CC_PROFILE_H_

#include "plan.h"

namespace tf_pof {

// A step, or a phase of one, of all calls since it was last asked for.
struct ProfileRow {
  char kind[48];
  const char* name;  // of its weights, or ""
  char detail[80];
  int64_t steps;
  int64_t calls;  // of these steps together
  int64_t nanoseconds;
};

// Adds rows of the steps that have run, and forgets them. `context` is for
// their names, or null for none.
bool TakeProfile(const TfLiteContext* context, Plan* plan,
                 Buffer<ProfileRow>* rows);

// Prints what steps of a kind take together, if any has run.
void PrintProfile(Plan* plan);

}  // namespace tf_pof

#endif  // TF_POF_RUNTIME_CC_PROFILE_H_
