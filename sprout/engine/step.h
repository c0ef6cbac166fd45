/* The model and its step, for native.c: kinds of vectors, matrices in panels, the layers. It knows nothing of Python but that a
 * model is one of its objects.
 *
 * Letters: N tokens, B rows, L layers, H heads, K key/value heads, D head size, C channels, F hidden channels, V vocabulary. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "threads.h"

#define PANEL 32
#define FAR 32e6 /* bytes of weights from which on it pays to ask for them AHEAD (floats), but for one or two rows: at 400 MB 1.1
                  * to 1.3 times the speed, at 64 MB 0.95 to 1.2, at 4 MB 0.8 (2 threads) */
#define AHEAD 512
#define DEEP 128 /* units of a panel that the nearest cache holds beside some rows */
#define MOST_ERRANDS 256 /* of 8 kB each */
#define ROOM(n) (((n) + 15) / 16 * 8) /* floats that n integers of 16 bits take, in whole vectors */
#define SCORES(places) (2 * ((places) + 32)) /* floats that hold those of two queries, in whole vectors */
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { WRITTEN, ADDED, GATED }; /* what becomes of a product */
#define PLAIN (-1.0f)          /* in place of an eps: a row that isn't normed */

typedef struct {
    long channels, units, out, count; /* C; what a sum is of; numbers that come out; panels */
    long size;                        /* of a panel */
    int far;                          /* the model's weights are more than a cache holds */
    float *panels;
} Matrix;

/* What a thread asks for while it multiplies many rows, since it will need it soon: n places, DEEP lines of 16 floats at each. */
typedef struct {
    long n, done;
    const float *at[MOST_ERRANDS];
} Errands;

/* ---------------------------------------------------------------------------------------------- kinds of vectors */

typedef struct {
    const char *name;
    long kept; /* bytes of a number in the cache */
    float (*rounded_row)(float *, const float *, long, float); /* where products are those of integers */
    float (*inverse_size)(const float *, long, float);
    void (*product)(const Matrix *, long, long, int, long, const float *, long, const float *, float *, Errands *);
    void (*keep)(float *, const float *, long, void *, void *, long, const float *, const float *, float);
    void (*attend)(float *, long, long, const void *, const void *, long, long, const float *, const float *, float, float, float *,
                   float *);
    float (*most)(const float *, long);
    void (*exponentials)(const float *, long, float, float, float *);
    long (*allow)(const float *, const uint8_t *, long, float *);
    double (*sum)(const float *, long);
} Kernels;

#define KERNELS(name, suffix, kept, rounded_row) {name, kept, rounded_row, inverse_size_##suffix, product_##suffix, keep_##suffix, attend_##suffix, most_##suffix, exponentials_##suffix, allow_##suffix, sum_##suffix}

#if defined(__x86_64__)
#define W 16
#define BLOCKS BLOCK(4, 2) BLOCK(2, 4) BLOCK(1, 4) /* 16 or 8 sums of 32 registers */
#define ROWS 14
#define MANY 8
#define CASES CASE(14) CASE(13) CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define WIDTHS WIDTH(1, 8, 2) WIDTH(2, 4, 2) WIDTH(4, 2, 2) WIDTH(8, 1, 2) WIDTH(1, 8, 1) WIDTH(2, 4, 1) WIDTH(4, 2, 1) WIDTH(8, 1, 1)
#define INTEGERS
#define NAME(x) x##_int16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#include "kernels.h"
#undef INTEGERS
#undef NAME
#undef TARGET

#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#include "kernels.h"
#undef W
#undef NAME
#undef TARGET
#undef BLOCKS
#undef ROWS
#undef MANY
#undef CASES
#undef EVENS
#undef ODDS
#undef WIDTHS

#define WIDTHS WIDTH(1, 8, 1) WIDTH(2, 4, 1) WIDTH(4, 2, 1) WIDTH(8, 1, 1) /* fewer registers */
#define W 8
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define BLOCKS BLOCK(3, 1) BLOCK(2, 1) BLOCK(1, 2) /* 12 or 8 sums of 16 registers */
#define ROWS 3
#define MANY 4
#define CASES CASE(3) CASE(2)
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#include "kernels.h"
#undef W
#undef NAME
#undef TARGET
#undef BLOCKS
#undef ROWS
#undef MANY
#undef CASES
#undef EVENS
#undef ODDS
#endif

#define W 4 /* what every 64-bit processor has: SSE2, NEON */
#define NAME(x) x##_plain
#define TARGET
#define BLOCKS BLOCK(2, 1) BLOCK(1, 1)
#define ROWS 2
#define MANY 4
#define CASES CASE(2) CASE(1)
#define EVENS 0, 2, 4, 6
#define ODDS 1, 3, 5, 7
#include "kernels.h"

/* Those that this processor has, the best first; '' is any of them, and 'float32' any but int16. */
static const Kernels *kernels_named(const char *name) {
    int any = !*name || !strcmp(name, "float32");
    static const Kernels plain = KERNELS("plain", plain, 4, NULL);
#if defined(__x86_64__)
    static const Kernels int16 = KERNELS("int16", int16, 2, rounded_row_int16);
    static const Kernels avx512 = KERNELS("avx512", avx512, 4, NULL), avx2 = KERNELS("avx2", avx2, 4, NULL);
    int has_512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("f16c");
    if (has_512 && __builtin_cpu_supports("avx512vnni") && (!*name || !strcmp(name, "int16"))) return &int16;
    if (has_512 && (any || !strcmp(name, "avx512"))) return &avx512;
    int has_2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_2 && (any || !strcmp(name, "avx2"))) return &avx2;
#endif
    return any || !strcmp(name, "plain") ? &plain : NULL;
}

/* ---------------------------------------------------------------------------------------------- the step */

typedef struct {
    Matrix qkv, o, gate_up, down;
} Layer;

typedef struct {
    PyObject_HEAD
    long L, H, K, D, C, F, V, context;
    long errands; /* at most */
    float eps, gain;
    int far;
    const Kernels *kernels;
    Py_buffer table, cos, sin; /* (V, C), (context, D) twice */
    Layer *layers;
    Matrix head;
    char *scratch; /* of the last step, for the next one */
} Model;

#define AT_ONCE 256 /* tokens that go through the layers together */

typedef struct {
    Team team;
    const Model *m;
    long N, heads, rows, places; /* tokens, and those whose scores are wanted; rows and places of the cache */
    int apart; /* each token has a row of its own */
    const int64_t *ids, *row, *place, *last;
    char *k, *v; /* of numbers of kernels->kept bytes */
    float *logits;
    float *x, *joined, *mixed, *hidden, *wanted, *own; /* (N, C), (N, (H + 2K) D), (N, H D), (N, F), (heads, C), (threads, own_size) */
    float *scale, *rounded, *more; /* (N,) and (N, ROOM(longest)), where rows are rounded together */
    long own_size, first; /* `last` counts from there */
} Job;

/* Rows are rounded by all threads together, and else, where they are so few that to meet takes longer, by each for itself. */
#define TOGETHER 8

static unsigned together(const Job *job, long B) { return job->m->kernels->rounded_row && B >= TOGETHER; }

/* Whether each token has a row of the cache of its own, and so looks at no other's key. */
static int apart(const Job *job) {
    for (long b = 1; b < job->N; b++)
        if (job->row[b] <= job->row[b - 1]) return 0;
    return 1;
}

/* How often the threads meet in a step. */
static unsigned meetings(const Job *job) {
    return (6 - (unsigned)job->apart + 3 * together(job, job->N)) * (unsigned)job->m->L + 2 + together(job, job->heads);
}

/* A thread's share of a product of x (B, m->channels), of which each row is normed, unless it is ADDED to what is there. The norm
 * is one number for a row: what comes out is scaled, instead of what goes in. Without x, all rows were rounded before. */
static void share(Job *job, int thread, unsigned *n, const Matrix *m, int how, long B, const float *x, float *out, Errands *errands) {
    const Kernels *kernels = job->m->kernels;
    long threads = job->team.threads, C = m->channels, stride = C, shared = together(job, B);
    float *own = job->own + thread * job->own_size, *scale = shared ? job->scale : own;
    float *rounded = shared ? job->rounded : own + AT_ONCE + SCORES(job->places);
    for (long b = shared ? thread : 0; x && b < B; b += shared ? threads : 1) {
        if (kernels->rounded_row)
            scale[b] = kernels->rounded_row(rounded + b * ROOM(C), x + b * C, C, how == ADDED ? PLAIN : job->m->eps);
        else
            scale[b] = how == ADDED ? 1 : kernels->inverse_size(x + b * C, C, job->m->eps);
    }
    if (shared && x) meet(&job->team, n);
    if (kernels->rounded_row) x = rounded, stride = ROOM(C);
    kernels->product(m, m->count * thread / threads, m->count * (thread + 1) / threads, how, B, x, stride, scale, out, errands);
}

/* The keys and values at which a thread looks in a layer, as many as half of its cache holds: they come while the products before
 * are summed up, which leave the way to the memory idle. */
static void plan(const Job *job, int thread, long layer, Errands *errands) {
    const Model *m = job->m;
    errands->n = errands->done = 0;
    if (job->heads < job->N || job->N < 8) return; /* a prompt, or rows that are few */
    for (long unit = 0; unit < job->N * m->K; unit++) {
        long b = unit / m->K;
        if ((together(job, job->N) ? b : unit) % job->team.threads != thread) continue;
        long each = m->D * m->kernels->kept, size = (job->place[b] + 1) * each;
        long at = ((layer * job->rows + job->row[b]) * m->K + unit % m->K) * job->places * each;
        for (long i = 0; i < 2 * size; i += DEEP * 64) {
            if (errands->n == m->errands) return;
            errands->at[errands->n++] = (const float *)(i < size ? job->k + at + i : job->v + at + i - size);
        }
    }
}

enum { KEEP = 1, LOOK = 2 };

/* A thread's share of attention in a layer: the new tokens' keys and values are written, or their queries look, or both. Of many
 * tokens it has whole ones, and rounds what becomes of them. */
static void attention(Job *job, int thread, long layer, int what) {
    const Model *m = job->m;
    const Kernels *kernels = m->kernels;
    long K = m->K, D = m->D, H = m->H, group = H / K, joined = (H + 2 * K) * D, threads = job->team.threads, whole = together(job, job->N);
    float *scores = job->own + thread * job->own_size + AT_ONCE;
    for (long b = 0; b < job->N; b++) {
        if (whole && b % threads != thread) continue;
        long place = job->place[b], first = (layer * job->rows + job->row[b]) * K;
        const float *cos = (const float *)m->cos.buf + place * D, *sin = (const float *)m->sin.buf + place * D;
        for (long k = 0; k < K; k++) {
            if (!whole && (b * K + k) % threads != thread) continue;
            long at = (first + k) * job->places * D * kernels->kept;
            float *queries = job->joined + b * joined + k * group * D, *key = job->joined + b * joined + (H + k) * D;
            if (what & KEEP) kernels->keep(key, key + K * D, D, job->k + at, job->v + at, place, cos, sin, m->eps);
            if (what & LOOK)
                kernels->attend(queries, group, D, job->k + at, job->v + at, place + 1, job->places, cos, sin, m->eps, m->gain, scores,
                                job->mixed + (b * H + k * group) * D);
        }
        if (whole && what & LOOK)
            job->scale[b] = kernels->rounded_row(job->rounded + b * ROOM(H * D), job->mixed + b * H * D, H * D, PLAIN);
    }
}

/* The stream of N tokens through all layers. */
static void step(Team *team, int thread) {
    Job *job = (Job *)team;
    const Model *m = job->m;
    long N = job->N, C = m->C, heads = job->heads;
    unsigned n = 0;
    Errands errands;
    errands.n = errands.done = 0;
    for (long b = thread; b < N; b += team->threads)
        memcpy(job->x + b * C, (const float *)m->table.buf + job->ids[b] * C, (size_t)C * sizeof(float));
    meet(team, &n);
    for (long i = 0; i < m->L; i++) {
        const Layer *layer = &m->layers[i];
        share(job, thread, &n, &layer->qkv, WRITTEN, N, job->x, job->joined, &errands);
        meet(team, &n);
        if (!job->apart) {
            attention(job, thread, i, KEEP);
            meet(team, &n);
        }
        attention(job, thread, i, job->apart ? KEEP | LOOK : LOOK);
        meet(team, &n);
        plan(job, thread, (i + 1) % m->L, &errands); /* after the last layer, those of the next step's first */
        share(job, thread, &n, &layer->o, ADDED, N, together(job, N) ? NULL : job->mixed, job->x, &errands);
        meet(team, &n);
        share(job, thread, &n, &layer->gate_up, GATED, N, job->x, job->hidden, &errands);
        meet(team, &n);
        share(job, thread, &n, &layer->down, ADDED, N, job->hidden, job->x, &errands);
        meet(team, &n);
    }
    for (long b = thread; b < heads; b += team->threads)
        memcpy(job->wanted + b * C, job->x + (job->last[b] - job->first) * C, (size_t)C * sizeof(float));
    meet(team, &n);
    share(job, thread, &n, &m->head, WRITTEN, heads, job->wanted, job->logits, &errands);
}

/* ---------------------------------------------------------------------------------------------- matrices into panels */

/* Rows (out, channels) into m's panels; with `gated` they are gates and then as many ups, 16 of each in a panel. As integers,
 * pairs of channels and, behind a panel, the scales of its rows. */
static int pack(Matrix *m, const Kernels *kernels, const float *rows, long out, long channels, int gated, int far) {
    int integers = kernels->rounded_row != NULL;
    long each = gated ? PANEL / 2 : PANEL, n = gated ? out / 2 : out, units = integers ? (channels + 1) / 2 : channels;
    *m = (Matrix){channels, units, n, (n + each - 1) / each, (units + integers) * PANEL, far, NULL};
    size_t size = (size_t)(m->count * m->size) * sizeof(float);
    void *panels;
    float *rounded = integers ? malloc((size_t)(PANEL * ROOM(channels)) * sizeof(float)) : NULL;
    if ((integers && !rounded) || posix_memalign(&panels, size >= 1 << 21 ? 1 << 21 : 64, size)) return free(rounded), -1;
#ifdef MADV_HUGEPAGE
    madvise(panels, size, MADV_HUGEPAGE); /* fewer pages to look up while reading from end to end */
#endif
    m->panels = panels;
    for (long p = 0; p < m->count; p++) {
        float *panel = m->panels + p * m->size;
        const float *row[PANEL];
        for (long j = 0; j < PANEL; j++) {
            long within = p * each + j % each;
            row[j] = within < n ? rows + (j < each ? within : n + within) * channels : NULL;
            if (!integers) continue;
            float *to = rounded + j * ROOM(channels);
            panel[units * PANEL + j] = row[j] ? kernels->rounded_row(to, row[j], channels, PLAIN) : 0;
            row[j] = row[j] ? to : NULL;
        }
        for (long part = 0; part < units; part += 64) /* so few at a time that they stay near for all rows */
            for (long j = 0; j < PANEL; j++)
                for (long u = part; u < units && u < part + 64; u++) panel[u * PANEL + j] = row[j] ? row[j][u] : 0;
    }
    free(rounded);
    return 0;
}
