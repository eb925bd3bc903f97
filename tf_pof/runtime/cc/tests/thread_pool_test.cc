// Every index runs once, on threads of the pool, whoever starts the loops.
#include "thread_pool.h"

#include <pthread.h>
#include <time.h>

#include "tests/testing.h"

namespace {

constexpr int kMost = 1000;

struct Loop {
  int32_t threads;
  int32_t runs[kMost];  // atomic
};

void CountRun(void* context, int32_t i, int32_t thread) {
  auto* loop = static_cast<Loop*>(context);
  CHECK(thread >= 0 && thread < loop->threads, "thread %d", thread);
  __atomic_fetch_add(&loop->runs[i], 1, __ATOMIC_RELAXED);
}

void RunLoops(TfPofThreadPool* pool, int32_t loops) {
  for (int32_t i = 0; i < loops; ++i) {
    Loop loop = {TfPofThreadPoolThreads(pool), {}};
    const int32_t count = i * 37 % kMost;
    TfPofThreadPoolRun(pool, count, CountRun, &loop);
    for (int32_t j = 0; j < kMost; ++j) {
      CHECK(loop.runs[j] == (j < count), "index %d ran %d times", j,
            loop.runs[j]);
    }
  }
}

void* RunLoopsOn(void* pool) {
  RunLoops(static_cast<TfPofThreadPool*>(pool), 200);
  return nullptr;
}

}  // namespace

int main() {
  CHECK(TfPofThreadPoolCreate(0) == nullptr, "no threads");
  CHECK(TfPofThreadPoolCreate(257) == nullptr, "too many threads");
  CHECK(TfPofThreadPoolThreads(nullptr) == 1, "no pool");
  RunLoops(nullptr, 10);
  for (int32_t threads : {1, 2, 4}) {
    TfPofThreadPool* pool = TfPofThreadPoolCreate(threads);
    CHECK(TfPofThreadPoolThreads(pool) == threads, "%d", threads);
    RunLoops(pool, 300);
    // Workers that went to sleep wake up.
    const timespec moment = {0, 5000000};
    nanosleep(&moment, nullptr);
    RunLoops(pool, 5);
    // Several callers of one pool take turns.
    pthread_t callers[3];
    for (pthread_t& caller : callers) {
      pthread_create(&caller, nullptr, RunLoopsOn, pool);
    }
    for (pthread_t& caller : callers) pthread_join(caller, nullptr);
    TfPofThreadPoolDelete(pool);
  }
  return 0;
}
