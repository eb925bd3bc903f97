// A pool of threads that wait for one parallel loop at a time.
#ifndef TF_POF_RUNTIME_CC_THREAD_POOL_H_
#define TF_POF_RUNTIME_CC_THREAD_POOL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TfPofThreadPool TfPofThreadPool;

// `threads` counts the caller, so threads - 1 are started; NULL if memory or
// threads run out, or `threads` is not in 1..256.
TfPofThreadPool* TfPofThreadPoolCreate(int32_t threads);
// The pool must be idle.
void TfPofThreadPoolDelete(TfPofThreadPool* pool);
int32_t TfPofThreadPoolThreads(const TfPofThreadPool* pool);  // 1 for NULL
// Nanoseconds that callers have waited for other threads to end a loop, since
// this was asked first: clocks take time. 0 for NULL.
int64_t TfPofThreadPoolWaited(TfPofThreadPool* pool);

// Calls function(context, i, thread) for each i in [0, count) once, in any
// order, and returns when all have returned; thread < threads says who runs.
// A thread runs the same part of each loop of the same count, the first part
// that of thread 0, the caller, so that data stay in its cache; others help it
// only if it is late.
// Loops that several callers start on one pool run one after another. The
// function must not start a loop on the same pool. In a child of fork(), which
// has none of the threads, the caller runs everything.
typedef void (*TfPofLoopFunction)(void* context, int32_t i, int32_t thread);
void TfPofThreadPoolRun(TfPofThreadPool* pool, int32_t count,
                        TfPofLoopFunction function, void* context);

#ifdef __cplusplus
}
#endif

#endif  // TF_POF_RUNTIME_CC_THREAD_POOL_H_
