#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ticks.h"

using tf_pof::Nanoseconds;

// A layer takes some 10 us, less than waking a thread does, so a worker spins
// for a while after a loop before it sleeps: longer than from layer to layer.
static constexpr int64_t kSpinNanoseconds = 100 * 1000;

struct Worker {
  TfPofThreadPool* pool;
  int32_t thread;
  pthread_t handle;
};

// A thread's share of a loop. What it has taken in one loop it takes in the
// next of the same length, so that data stay in its cache from layer to layer;
// whoever has done its own share helps the others.
struct alignas(64) Share {
  int32_t next;  // atomic: the first index that nobody took
  int32_t end;
};

struct TfPofThreadPool {
  int32_t threads;
  Worker* workers;          // [threads]; the first stands for the caller
  Share* shares;            // [threads]
  pthread_mutex_t callers;  // held by the caller whose loop runs
  pthread_mutex_t mutex;    // guards sleeping workers
  pthread_cond_t wake;
  int32_t stop;  // atomic
  // Atomic: the loop's number << 32 | workers in it * kWorker | kOpen. Workers
  // that come when the loop is closed let it be, so that a loop never waits
  // for one that has no processor.
  uint64_t state;
  // The loop. Written while it is closed and nobody is in it.
  TfPofLoopFunction function;
  void* context;
  int64_t waited;  // atomic, nanoseconds
};

static constexpr uint64_t kOpen = 1;
static constexpr uint64_t kWorker = 2;
static constexpr uint64_t kInside = 0xFFFFFFFF & ~kOpen;

static void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void Work(TfPofThreadPool* pool, int32_t thread) {
  for (int32_t i = 0; i < pool->threads; ++i) {
    Share* share = &pool->shares[(thread + i) % pool->threads];
    for (;;) {
      const int32_t index =
          __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
      if (index >= share->end) break;
      pool->function(pool->context, index, thread);
    }
  }
}

static bool IsNext(TfPofThreadPool* pool, uint32_t seen) {
  return __atomic_load_n(&pool->state, __ATOMIC_ACQUIRE) >> 32 != seen;
}

// Waits for a loop after number `seen`, spinning first and sleeping then.
static void WaitForLoop(TfPofThreadPool* pool, uint32_t seen) {
  const int64_t start = Nanoseconds();
  for (int spins = 1; !IsNext(pool, seen); ++spins) {
    Pause();
    if (spins % 64 == 0 && Nanoseconds() - start > kSpinNanoseconds) break;
  }
  if (IsNext(pool, seen)) return;
  pthread_mutex_lock(&pool->mutex);
  while (!IsNext(pool, seen)) pthread_cond_wait(&pool->wake, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
}

static void* WorkerMain(void* argument) {
  const Worker* worker = static_cast<Worker*>(argument);
  TfPofThreadPool* pool = worker->pool;
  for (uint32_t seen = 0;;) {
    WaitForLoop(pool, seen);
    if (__atomic_load_n(&pool->stop, __ATOMIC_ACQUIRE)) return nullptr;
    uint64_t state = __atomic_load_n(&pool->state, __ATOMIC_ACQUIRE);
    while ((state & kOpen) != 0 &&
           !__atomic_compare_exchange_n(&pool->state, &state, state + kWorker,
                                        true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
    }
    seen = static_cast<uint32_t>(state >> 32);
    if ((state & kOpen) == 0) continue;
    Work(pool, worker->thread);
    __atomic_fetch_sub(&pool->state, kWorker, __ATOMIC_RELEASE);
  }
}

// Opens the next loop: makes what was written before visible to the workers
// and wakes them.
static void OpenLoop(TfPofThreadPool* pool) {
  pthread_mutex_lock(&pool->mutex);
  const uint64_t state = __atomic_load_n(&pool->state, __ATOMIC_RELAXED);
  const uint64_t number = (state >> 32) + 1;
  __atomic_store_n(&pool->state, number << 32 | kOpen, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

TfPofThreadPool* TfPofThreadPoolCreate(int32_t threads) {
  if (threads < 1 || threads > 256) return nullptr;
  auto* pool =
      static_cast<TfPofThreadPool*>(calloc(1, sizeof(TfPofThreadPool)));
  if (pool == nullptr) return nullptr;
  pool->workers = static_cast<Worker*>(calloc(threads, sizeof(Worker)));
  void* shares = nullptr;
  if (pool->workers == nullptr ||
      posix_memalign(&shares, alignof(Share), threads * sizeof(Share)) != 0) {
    free(pool->workers);
    free(pool);
    return nullptr;
  }
  pool->shares = static_cast<Share*>(shares);
  pthread_mutex_init(&pool->callers, nullptr);
  pthread_mutex_init(&pool->mutex, nullptr);
  pthread_cond_init(&pool->wake, nullptr);
  pool->threads = 1;
  for (int32_t i = 1; i < threads; ++i) {
    Worker* worker = &pool->workers[i];
    *worker = {pool, i, {}};
    if (pthread_create(&worker->handle, nullptr, WorkerMain, worker) != 0) {
      TfPofThreadPoolDelete(pool);
      return nullptr;
    }
    pool->threads = i + 1;
  }
  return pool;
}

void TfPofThreadPoolDelete(TfPofThreadPool* pool) {
  if (pool == nullptr) return;
  __atomic_store_n(&pool->stop, 1, __ATOMIC_RELEASE);
  OpenLoop(pool);
  for (int32_t i = 1; i < pool->threads; ++i) {
    pthread_join(pool->workers[i].handle, nullptr);
  }
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  pthread_mutex_destroy(&pool->callers);
  free(pool->workers);
  free(pool->shares);
  free(pool);
}

int32_t TfPofThreadPoolThreads(const TfPofThreadPool* pool) {
  return pool == nullptr ? 1 : pool->threads;
}

int64_t TfPofThreadPoolWaited(const TfPofThreadPool* pool) {
  if (pool == nullptr) return 0;
  return __atomic_load_n(&pool->waited, __ATOMIC_RELAXED);
}

void TfPofThreadPoolRun(TfPofThreadPool* pool, int32_t count,
                        TfPofLoopFunction function, void* context) {
  if (pool == nullptr || pool->threads == 1 || count <= 1) {
    for (int32_t i = 0; i < count; ++i) function(context, i, 0);
    return;
  }
  pthread_mutex_lock(&pool->callers);
  pool->function = function;
  pool->context = context;
  const int64_t threads = pool->threads;
  for (int64_t i = 0; i < threads; ++i) {
    pool->shares[i].end = static_cast<int32_t>(count * (i + 1) / threads);
    __atomic_store_n(&pool->shares[i].next,
                     static_cast<int32_t>(count * i / threads),
                     __ATOMIC_RELAXED);
  }
  OpenLoop(pool);
  Work(pool, 0);
  __atomic_fetch_and(&pool->state, ~kOpen, __ATOMIC_ACQ_REL);
  const int64_t begin = Nanoseconds();
  for (int spins = 1;
       (__atomic_load_n(&pool->state, __ATOMIC_ACQUIRE) & kInside) != 0;
       ++spins) {
    Pause();
    // A worker may have lost its processor to somebody else.
    if (spins % 1024 == 0) sched_yield();
  }
  __atomic_fetch_add(&pool->waited, Nanoseconds() - begin, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&pool->callers);
}
