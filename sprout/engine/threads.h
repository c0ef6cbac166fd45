/* A few threads that work on one thing together and meet now and then, for native.c.
 *
 * Workers wait for work turning in place for a moment (a step follows the last within a fraction of a millisecond while
 * somebody is written to) and then asleep. Not OpenMP: PyTorch brings one of its own, and of two in a process each turns in
 * place where the other wants to work. One team at a time has the workers; a caller who comes meanwhile works alone. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MOST_THREADS 64
#define PATIENCE 4000 /* turns of 40 to 140 cycles each, about 0.1 ms, before a worker sleeps */

typedef struct Team {
    void (*work)(struct Team *, int thread);
    int threads;
    _Alignas(64) atomic_uint arrived; /* in a cache line of its own: it changes while the others read the rest */
} Team;

static struct {
    pthread_mutex_t busy, lock;
    pthread_cond_t wake;
    atomic_uint call; /* number of the call x 256 + threads that take part; workers wait for another one */
    atomic_int sleepers;
    Team *_Atomic team;
    int workers;
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, NULL, 0};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

typedef struct {
    int thread;
    unsigned seen;
} Start;

static void *worker(void *argument) {
    Start start = *(Start *)argument;
    free(argument);
    for (;;) {
        unsigned call;
        for (int i = 0; (call = atomic_load(&pool.call)) == start.seen && i < PATIENCE; i++) pause_briefly();
        if (call == start.seen) {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleepers, 1);
            while ((call = atomic_load(&pool.call)) == start.seen) pthread_cond_wait(&pool.wake, &pool.lock);
            atomic_fetch_sub(&pool.sleepers, 1);
            pthread_mutex_unlock(&pool.lock);
        }
        start.seen = call;
        if (start.thread < (int)(call & 255)) {
            Team *team = atomic_load(&pool.team);
            team->work(team, start.thread);
            atomic_fetch_add(&team->arrived, 1); /* the team may be gone from here on */
        }
    }
    return NULL;
}

/* After a fork the child has no workers; it makes its own. */
static void forget_workers(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.sleepers, 0);
    pool.workers = 0;
}

/* As many threads as there are, at most `wanted`, this one included. The caller has the pool. */
static int threads_there(int wanted) {
    while (pool.workers + 1 < wanted) {
        pthread_t id;
        Start *start = malloc(sizeof *start);
        if (!start) break;
        *start = (Start){pool.workers + 1, atomic_load(&pool.call)};
        if (pthread_create(&id, NULL, worker, start)) {
            free(start);
            break;
        }
        pthread_detach(id);
        pool.workers++;
    }
    return wanted < pool.workers + 1 ? wanted : pool.workers + 1;
}

/* Wait until all threads are here, for the n-th time. */
static void meet(Team *team, unsigned *n) {
    if (team->threads == 1) return;
    unsigned all = ++*n * (unsigned)team->threads;
    atomic_fetch_add(&team->arrived, 1);
    for (int i = 0; (int)(atomic_load(&team->arrived) - all) < 0; i++) {
        if (i < PATIENCE) pause_briefly();
        else sched_yield(); /* somebody else has the processor that one of us needs */
    }
}

/* Work, with as many threads as are wanted and there; `meetings` are how often they meet meanwhile. */
static void work_together(Team *team, int wanted, unsigned meetings) {
    int alone = wanted < 2 || pthread_mutex_trylock(&pool.busy);
    team->threads = alone ? 1 : threads_there(wanted);
    atomic_store(&team->arrived, 0);
    if (team->threads > 1) {
        atomic_store(&pool.team, team);
        atomic_store(&pool.call, ((atomic_load(&pool.call) >> 8) + 1) << 8 | (unsigned)team->threads);
        if (atomic_load(&pool.sleepers)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_broadcast(&pool.wake);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    team->work(team, 0);
    meet(team, &meetings);
    if (!alone) pthread_mutex_unlock(&pool.busy);
}
