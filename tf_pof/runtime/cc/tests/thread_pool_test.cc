// Every index runs once, on threads of the pool, whoever starts the loops; and
// no thread waits for another that has no processor.
#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/testing.h"

namespace {

constexpr int kMost = 1000;

void Sleep(int64_t milliseconds) {
  const timespec moment = {0, milliseconds * 1000000};
  nanosleep(&moment, nullptr);
}

struct Loop {
  int32_t threads;
  int32_t runs[kMost];  // atomic
};

void CountRun(void* context, int32_t i, int32_t thread) {
  auto* loop = static_cast<Loop*>(context);
  CHECK(thread >= 0 && thread < loop->threads, "thread %d", thread);
  __atomic_fetch_add(&loop->runs[i], 1, __ATOMIC_RELAXED);
}

void RunLoop(TfPofThreadPool* pool, int32_t count) {
  Loop loop = {TfPofThreadPoolThreads(pool), {}};
  TfPofThreadPoolRun(pool, count, CountRun, &loop);
  for (int32_t j = 0; j < kMost; ++j) {
    CHECK(loop.runs[j] == (j < count), "index %d of %d ran %d times", j, count,
          loop.runs[j]);
  }
}

void RunLoops(TfPofThreadPool* pool, int32_t loops) {
  for (int32_t i = 0; i < loops; ++i) RunLoop(pool, i * 37 % kMost);
}

void* RunLoopsOn(void* pool) {
  RunLoops(static_cast<TfPofThreadPool*>(pool), 200);
  return nullptr;
}

// An index that waits for others. Loops that hang are what CHECKs here find.
struct Meeting {
  int32_t waits;     // the index that waits, or -1 for all
  int32_t others;    // indices that have to begin before it may end
  int32_t begun;     // atomic
  uint64_t threads;  // atomic: who was there
};

void Meet(void* context, int32_t i, int32_t thread) {
  auto* meeting = static_cast<Meeting*>(context);
  __atomic_fetch_or(&meeting->threads, uint64_t{1} << thread, __ATOMIC_RELAXED);
  __atomic_fetch_add(&meeting->begun, 1, __ATOMIC_ACQ_REL);
  if (meeting->waits >= 0 && meeting->waits != i) return;
  while (__atomic_load_n(&meeting->begun, __ATOMIC_ACQUIRE) <
         meeting->others) {
    sched_yield();
  }
}

void CheckMeetings(TfPofThreadPool* pool) {
  const int32_t threads = TfPofThreadPoolThreads(pool);
  // Each index needs a thread of its own: sleepers wake, and all take part.
  for (int i = 0; i < 20; ++i) {
    Meeting meeting = {-1, threads, 0, 0};
    TfPofThreadPoolRun(pool, threads, Meet, &meeting);
    CHECK(meeting.threads == (uint64_t{1} << threads) - 1, "threads %x",
          static_cast<unsigned>(meeting.threads));
    if (i % 5 == 4) Sleep(2);
  }
  // Whoever is stuck, the others do what is left of its share.
  if (threads == 1) return;
  const int32_t count = 10 * threads;
  for (int32_t waits = 0; waits < count; waits += 5) {
    Meeting meeting = {waits, count, 0, 0};
    TfPofThreadPoolRun(pool, count, Meet, &meeting);
    CHECK(meeting.begun == count, "%d began", meeting.begun);
  }
}

struct Nested {
  TfPofThreadPool* pools[2];  // [outer threads]
  Loop loops[2];
};

void RunNested(void* context, int32_t i, int32_t thread) {
  (void)thread;
  auto* nested = static_cast<Nested*>(context);
  TfPofThreadPoolRun(nested->pools[i], kMost, CountRun, &nested->loops[i]);
}

// A loop's function may start loops on other pools.
void CheckNested() {
  TfPofThreadPool* outer = TfPofThreadPoolCreate(2);
  Nested nested = {{TfPofThreadPoolCreate(2), TfPofThreadPoolCreate(3)},
                   {{2, {}}, {3, {}}}};
  for (int loops = 1; loops < 50; ++loops) {
    TfPofThreadPoolRun(outer, 2, RunNested, &nested);
    for (const Loop& loop : nested.loops) {
      for (const int32_t runs : loop.runs) {
        CHECK(runs == loops, "ran %d times, not %d", runs, loops);
      }
    }
  }
  for (TfPofThreadPool* pool : nested.pools) TfPofThreadPoolDelete(pool);
  TfPofThreadPoolDelete(outer);
}

void MeetAndSleep(void* context, int32_t i, int32_t thread) {
  Meet(context, i, thread);
  if (thread > 0) Sleep(5);
}

void CheckWaited() {
  CHECK(TfPofThreadPoolWaited(nullptr) == 0, "no pool");
  TfPofThreadPool* pool = TfPofThreadPoolCreate(2);
  // Unasked, nothing is measured.
  Meeting unasked = {-1, 2, 0, 0};
  TfPofThreadPoolRun(pool, 2, MeetAndSleep, &unasked);
  CHECK(TfPofThreadPoolWaited(pool) == 0, "measured unasked");
  Meeting asked = {-1, 2, 0, 0};
  TfPofThreadPoolRun(pool, 2, MeetAndSleep, &asked);
  const int64_t waited = TfPofThreadPoolWaited(pool);
  // The caller may have lost its processor meanwhile.
  CHECK(waited > 0, "waited %d ns of 5 ms", static_cast<int>(waited));
  TfPofThreadPoolDelete(pool);
}

// A child of fork() has its parent's pools, and only one of the threads.
void CheckFork() {
  TfPofThreadPool* pool = TfPofThreadPoolCreate(3);
  RunLoops(pool, 3);
  const pid_t child = fork();
  CHECK(child >= 0, "no process");
  if (child == 0) {
    alarm(20);
    RunLoops(pool, 300);
    TfPofThreadPoolDelete(pool);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0,
        "the child ended with %d", status);
  RunLoops(pool, 3);
  TfPofThreadPoolDelete(pool);
}

}  // namespace

int main() {
  CHECK(TfPofThreadPoolCreate(0) == nullptr, "no threads");
  CHECK(TfPofThreadPoolCreate(257) == nullptr, "too many threads");
  CHECK(TfPofThreadPoolThreads(nullptr) == 1, "no pool");
  RunLoops(nullptr, 10);
  // More threads than processors, too.
  for (int32_t threads : {1, 2, 3, 4, 13}) {
    TfPofThreadPool* pool = TfPofThreadPoolCreate(threads);
    CHECK(TfPofThreadPoolThreads(pool) == threads, "%d", threads);
    for (int32_t count = 0; count <= 40; ++count) RunLoop(pool, count);
    RunLoops(pool, 300);
    // Workers that went to sleep wake up.
    Sleep(5);
    RunLoops(pool, 5);
    CheckMeetings(pool);
    // Several callers of one pool take turns.
    pthread_t callers[3];
    for (pthread_t& caller : callers) {
      pthread_create(&caller, nullptr, RunLoopsOn, pool);
    }
    for (pthread_t& caller : callers) pthread_join(caller, nullptr);
    TfPofThreadPoolDelete(pool);
  }
  CheckNested();
  CheckWaited();
  CheckFork();
  return 0;
}
