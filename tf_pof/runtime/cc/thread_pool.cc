#include "thread_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A layer takes some 10 us, less than waking a thread does, so a worker spins
// for a while after a loop before it sleeps: longer than from layer to layer.
static constexpr int64_t kSpinNanoseconds = 100 * 1000;

struct Worker {
  TfPofThreadPool* pool;
  int32_t thread;
  pthread_t handle;
};

struct TfPofThreadPool {
  int32_t threads;
  Worker* workers;           // [threads]; the first stands for the caller
  pthread_mutex_t callers;   // held by the caller whose loop runs
  pthread_mutex_t mutex;     // guards sleeping workers
  pthread_cond_t wake;
  uint32_t generation;       // of the loop; atomic
  int32_t stop;              // atomic
  // The loop of this generation.
  TfPofLoopFunction function;
  void* context;
  int32_t count;
  int32_t next;     // atomic: the first index that nobody took
  int32_t running;  // atomic: workers that have not seen the loop's end
};

static void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t Nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

static void Work(TfPofThreadPool* pool, int32_t thread) {
  for (;;) {
    const int32_t i = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
    if (i >= pool->count) return;
    pool->function(pool->context, i, thread);
  }
}

// Returns the generation after `seen`, spinning first and sleeping then.
static uint32_t WaitForLoop(TfPofThreadPool* pool, uint32_t seen) {
  const int64_t start = Nanoseconds();
  for (int spins = 1;; ++spins) {
    const uint32_t now = __atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE);
    if (now != seen) return now;
    Pause();
    if (spins % 64 == 0 && Nanoseconds() - start > kSpinNanoseconds) break;
  }
  pthread_mutex_lock(&pool->mutex);
  uint32_t now;
  while ((now = __atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE)) == seen) {
    pthread_cond_wait(&pool->wake, &pool->mutex);
  }
  pthread_mutex_unlock(&pool->mutex);
  return now;
}

static void* WorkerMain(void* argument) {
  const Worker* worker = static_cast<Worker*>(argument);
  TfPofThreadPool* pool = worker->pool;
  for (uint32_t seen = 0;;) {
    seen = WaitForLoop(pool, seen);
    if (__atomic_load_n(&pool->stop, __ATOMIC_ACQUIRE)) return nullptr;
    Work(pool, worker->thread);
    __atomic_fetch_sub(&pool->running, 1, __ATOMIC_RELEASE);
  }
}

// Makes what was written before visible to all workers and wakes them.
static void NextGeneration(TfPofThreadPool* pool) {
  pthread_mutex_lock(&pool->mutex);
  __atomic_fetch_add(&pool->generation, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

TfPofThreadPool* TfPofThreadPoolCreate(int32_t threads) {
  if (threads < 1 || threads > 256) return nullptr;
  auto* pool = static_cast<TfPofThreadPool*>(calloc(1, sizeof(TfPofThreadPool)));
  if (pool == nullptr) return nullptr;
  pool->workers = static_cast<Worker*>(calloc(threads, sizeof(Worker)));
  if (pool->workers == nullptr) {
    free(pool);
    return nullptr;
  }
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
  NextGeneration(pool);
  for (int32_t i = 1; i < pool->threads; ++i) {
    pthread_join(pool->workers[i].handle, nullptr);
  }
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  pthread_mutex_destroy(&pool->callers);
  free(pool->workers);
  free(pool);
}

int32_t TfPofThreadPoolThreads(const TfPofThreadPool* pool) {
  return pool == nullptr ? 1 : pool->threads;
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
  pool->count = count;
  __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&pool->running, pool->threads - 1, __ATOMIC_RELAXED);
  NextGeneration(pool);
  Work(pool, 0);
  for (int spins = 1; __atomic_load_n(&pool->running, __ATOMIC_ACQUIRE) != 0;
       ++spins) {
    Pause();
    // More threads than processors: let the others finish.
    if (spins % 4096 == 0) {
      const timespec moment = {0, 50000};
      nanosleep(&moment, nullptr);
    }
  }
  pthread_mutex_unlock(&pool->callers);
}
