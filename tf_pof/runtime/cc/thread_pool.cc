#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ticks.h"

using tf_pof::Nanoseconds;
using tf_pof::Ticks;

// From one processor to another a cache line takes up to 300 ns, and layers
// some 10 us. So a loop that all goes well with moves two lines for each
// worker: `Loop` there and `done` back. Nobody else writes what a thread
// writes, and nobody reads `taken` of another before it is time to help it.

// A layer takes less than waking a thread does, so a worker spins for a while
// after a loop before it sleeps: longer than from layer to layer.
static constexpr int64_t kSpinNanoseconds = 100 * 1000;
// A thread that has done its share waits this part of the time that it took
// for the others before it helps them: data would have to follow, and to come
// back for the next loop.
static constexpr int64_t kPatience = 4;
// Processors fetch lines in pairs.
static constexpr size_t kLines = 128;

// What the caller writes, while nobody runs an index.
struct alignas(kLines) Loop {
  uint64_t state;  // atomic: the loop's number << 32 | count; no count: stop
  TfPofLoopFunction function;
  void* context;  // atomic
};

// A thread has the same share of each loop of the same length, so that data
// stay in its cache from layer to layer.
struct Thread {
  // Atomic: the loop's number << 32 | how many of the share were taken. Who
  // takes one keeps the loop from ending. Nobody waits for a thread that has
  // taken none: it may have no processor.
  alignas(kLines) uint64_t taken;
  // Atomic: the loop's number << 32 | how many indices it has run.
  alignas(kLines) uint64_t done;
  alignas(kLines) TfPofThreadPool* pool;
  int32_t index;
  pthread_t handle;
};

struct TfPofThreadPool {
  Loop loop;
  Thread* threads;  // [count]; the first stands for the caller
  int32_t count;
  int32_t sleeping;         // atomic; changes under the mutex
  pthread_mutex_t mutex;    // guards going to sleep
  pthread_cond_t wake;
  pthread_mutex_t callers;  // held by the caller whose loop runs
  int32_t timed;            // atomic
  int64_t waited;           // atomic, nanoseconds
  int32_t forks;            // of the process that has the threads
};

// How often this process is the child of a fork(). The pools that it inherits
// have no threads but its own, and locks that nobody will open.
static int32_t forks = 0;

static void CountFork() { ++forks; }

static bool WatchForks() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  static bool watched = false;
  pthread_once(&once, [] {
    watched = pthread_atfork(nullptr, nullptr, CountFork) == 0;
  });
  return watched;
}

static uint32_t Number(uint64_t state) {
  return static_cast<uint32_t>(state >> 32);
}

static int32_t Count(uint64_t state) { return static_cast<int32_t>(state); }

static void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Where the share of thread `index` begins, and that of the one before ends.
// The caller's is never less than another's.
static int32_t ShareBegin(const TfPofThreadPool* pool, uint64_t state,
                          int32_t index) {
  const int64_t threads = pool->count;
  return static_cast<int32_t>((int64_t{Count(state)} * index + threads - 1) /
                              threads);
}

// Takes one of the share of thread `index`: which one, or -1 if none is left
// or the loop is over.
static int32_t Take(TfPofThreadPool* pool, uint64_t state, int32_t index) {
  const int32_t begin = ShareBegin(pool, state, index);
  const int32_t size = ShareBegin(pool, state, index + 1) - begin;
  uint64_t* taken = &pool->threads[index].taken;
  uint64_t old = __atomic_load_n(taken, __ATOMIC_ACQUIRE);
  for (;;) {
    const bool first = Number(old) != Number(state);
    // If the loop is over all of its shares were taken: after this either it
    // is not over or the exchange fails.
    if (first &&
        __atomic_load_n(&pool->loop.state, __ATOMIC_ACQUIRE) != state) {
      return -1;
    }
    const int32_t next = first ? 0 : Count(old);
    if (next >= size) return -1;
    const uint64_t wanted = uint64_t{Number(state)} << 32 | (next + 1);
    if (__atomic_compare_exchange_n(taken, &old, wanted, true, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
      return begin + next;
    }
  }
}

// Runs what thread `index` is to do; returns how many indices.
static int32_t RunShare(TfPofThreadPool* pool, uint64_t state, int32_t index,
                        int32_t thread) {
  int32_t runs = 0;
  for (int32_t i; (i = Take(pool, state, index)) >= 0; ++runs) {
    pool->loop.function(pool->loop.context, i, thread);
  }
  return runs;
}

// Runs what is left of the other shares.
static int32_t Help(TfPofThreadPool* pool, uint64_t state, int32_t thread) {
  int32_t runs = 0;
  for (int32_t i = 1; i < pool->count; ++i) {
    runs += RunShare(pool, state, (thread + i) % pool->count, thread);
  }
  return runs;
}

static uint64_t State(TfPofThreadPool* pool) {
  return __atomic_load_n(&pool->loop.state, __ATOMIC_ACQUIRE);
}

// A worker's part of the loop. Returns after how many ticks it may help, or -1
// if it may not.
static int64_t Work(Thread* own, uint64_t state) {
  TfPofThreadPool* pool = own->pool;
  // The first lines of what the function reads, on their way with `taken`.
  const char* context = static_cast<char*>(
      __atomic_load_n(&pool->loop.context, __ATOMIC_RELAXED));
  __builtin_prefetch(context);
  __builtin_prefetch(context + 64);
  const int64_t begin = Ticks();
  const int32_t runs = RunShare(pool, state, own->index, own->index);
  if (runs == 0) return -1;
  __atomic_store_n(&own->done, uint64_t{Number(state)} << 32 | runs,
                   __ATOMIC_RELEASE);
  return (Ticks() - begin) / kPatience;
}

static void HelpOthers(Thread* own, uint64_t state) {
  // Whatever it runs counts at once: `done` is its own.
  const int32_t runs = Help(own->pool, state, own->index);
  if (runs > 0) {
    __atomic_store_n(&own->done, own->done + runs, __ATOMIC_RELEASE);
  }
}

static void Sleep(TfPofThreadPool* pool, uint64_t seen) {
  pthread_mutex_lock(&pool->mutex);
  // Either this thread sees the next loop or its caller sees it sleep.
  __atomic_fetch_add(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&pool->loop.state, __ATOMIC_SEQ_CST) == seen) {
    pthread_cond_wait(&pool->wake, &pool->mutex);
  }
  __atomic_fetch_sub(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&pool->mutex);
}

// Waits for the loop after `seen`, helps the others with that one meanwhile,
// and sleeps if it takes long.
static uint64_t WaitForLoop(Thread* own, uint64_t seen, int64_t patience) {
  TfPofThreadPool* pool = own->pool;
  const int64_t start = Nanoseconds();
  const int64_t ticks = Ticks();
  for (int spins = 1; State(pool) == seen; ++spins) {
    Pause();
    if (spins % 16 != 0) continue;
    if (patience >= 0 && Ticks() - ticks > patience) {
      HelpOthers(own, seen);
      patience = -1;
    }
    if (spins % 64 == 0 && Nanoseconds() - start > kSpinNanoseconds) {
      Sleep(pool, seen);
    }
  }
  return State(pool);
}

static void* ThreadMain(void* argument) {
  auto* own = static_cast<Thread*>(argument);
  int64_t patience = -1;
  for (uint64_t seen = 0;;) {
    seen = WaitForLoop(own, seen, patience);
    if (Count(seen) == 0) return nullptr;
    patience = Work(own, seen);
  }
}

// Opens the next loop: makes what was written before visible to the workers
// and wakes them.
static uint64_t OpenLoop(TfPofThreadPool* pool, int32_t count) {
  const uint64_t number = Number(pool->loop.state) + uint64_t{1};
  const uint64_t state = number << 32 | static_cast<uint32_t>(count);
  __atomic_store_n(&pool->loop.state, state, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool->sleeping, __ATOMIC_SEQ_CST) > 0) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
  }
  return state;
}

// Indices of the loop that workers have run.
static int32_t Done(const TfPofThreadPool* pool, uint64_t state) {
  int32_t runs = 0;
  for (int32_t i = 1; i < pool->count; ++i) {
    const uint64_t done =
        __atomic_load_n(&pool->threads[i].done, __ATOMIC_ACQUIRE);
    if (Number(done) == Number(state)) runs += Count(done);
  }
  return runs;
}

// Waits until all indices have run, of which the caller has run some.
static void Finish(TfPofThreadPool* pool, uint64_t state, int32_t runs,
                   int64_t patience) {
  const int64_t ticks = Ticks();
  for (int spins = 1; runs + Done(pool, state) < Count(state); ++spins) {
    Pause();
    if (patience >= 0 && spins % 16 == 0 && Ticks() - ticks > patience) {
      runs += Help(pool, state, 0);
      patience = -1;
    }
    // A worker may have lost its processor to somebody else.
    if (spins % 1024 == 0) sched_yield();
  }
}

TfPofThreadPool* TfPofThreadPoolCreate(int32_t threads) {
  if (threads < 1 || threads > 256 || !WatchForks()) return nullptr;
  void* memory = nullptr;
  const size_t size = sizeof(TfPofThreadPool) + threads * sizeof(Thread);
  if (posix_memalign(&memory, kLines, size) != 0) return nullptr;
  memset(memory, 0, size);
  auto* pool = static_cast<TfPofThreadPool*>(memory);
  pool->threads = reinterpret_cast<Thread*>(pool + 1);
  pool->forks = forks;
  pthread_mutex_init(&pool->callers, nullptr);
  pthread_mutex_init(&pool->mutex, nullptr);
  pthread_cond_init(&pool->wake, nullptr);
  // Before the first of them starts, which reads it.
  pool->count = threads;
  for (int32_t i = 1; i < threads; ++i) {
    Thread* thread = &pool->threads[i];
    thread->pool = pool;
    thread->index = i;
    if (pthread_create(&thread->handle, nullptr, ThreadMain, thread) != 0) {
      pool->count = i;
      TfPofThreadPoolDelete(pool);
      return nullptr;
    }
  }
  return pool;
}

void TfPofThreadPoolDelete(TfPofThreadPool* pool) {
  if (pool == nullptr) return;
  if (pool->forks != forks) {
    free(pool);
    return;
  }
  OpenLoop(pool, 0);
  for (int32_t i = 1; i < pool->count; ++i) {
    pthread_join(pool->threads[i].handle, nullptr);
  }
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  pthread_mutex_destroy(&pool->callers);
  free(pool);
}

int32_t TfPofThreadPoolThreads(const TfPofThreadPool* pool) {
  return pool == nullptr ? 1 : pool->count;
}

int64_t TfPofThreadPoolWaited(TfPofThreadPool* pool) {
  if (pool == nullptr) return 0;
  __atomic_store_n(&pool->timed, 1, __ATOMIC_RELAXED);
  return __atomic_load_n(&pool->waited, __ATOMIC_RELAXED);
}

void TfPofThreadPoolRun(TfPofThreadPool* pool, int32_t count,
                        TfPofLoopFunction function, void* context) {
  if (pool == nullptr || pool->count == 1 || count <= 1 ||
      pool->forks != forks) {
    for (int32_t i = 0; i < count; ++i) function(context, i, 0);
    return;
  }
  pthread_mutex_lock(&pool->callers);
  pool->loop.function = function;
  __atomic_store_n(&pool->loop.context, context, __ATOMIC_RELAXED);
  const uint64_t state = OpenLoop(pool, count);
  const int64_t begin = Ticks();
  const int32_t runs = RunShare(pool, state, 0, 0);
  const int64_t patience = (Ticks() - begin) / kPatience;
  if (__atomic_load_n(&pool->timed, __ATOMIC_RELAXED)) {
    const int64_t start = Nanoseconds();
    Finish(pool, state, runs, patience);
    __atomic_fetch_add(&pool->waited, Nanoseconds() - start, __ATOMIC_RELAXED);
  } else {
    Finish(pool, state, runs, patience);
  }
  pthread_mutex_unlock(&pool->callers);
}
