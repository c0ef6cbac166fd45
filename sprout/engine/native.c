/* A decoding step in C: one new token for each of B rows, from their ids to the scores of all tokens that may follow. The same
 * as Decoder.step in decoder.py, which is to be read first and to which the tests compare it.
 *
 * In PyTorch a step is about 130 operations, each of which costs more than its sums where the model is small; here they are
 * written out, and only reading the weights is left. This file has the border to Python, the threads, and the step;
 * kernels.h has the sums. Letters: B rows, L layers, H heads, K key/value heads, D head size, C channels, F hidden channels,
 * V vocabulary. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define PANEL 32
#define FAR 32e6 /* bytes of weights from which on it pays to ask for them AHEAD (floats), but for one or two rows: at 400 MB 1.1
                  * to 1.3 times the speed, at 64 MB 0.95 to 1.2, at 4 MB 0.8 (2 threads) */
#define AHEAD 512
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#include "threads.h"

enum { WRITTEN, ADDED, GATED }; /* what becomes of a product */

typedef struct {
    long channels, out, count; /* C; numbers that come out; panels */
    int half, far;             /* bfloat16; the model's weights are more than a cache holds */
    float *panels;
} Matrix;

/* ---------------------------------------------------------------------------------------------- kinds of vectors */

typedef struct {
    const char *name;
    float (*inverse_size)(const float *, long, float);
    void (*product)(const Matrix *, long, long, int, long, const float *, const float *, float *);
    void (*keep)(float *, const float *, long, float *, float *, const float *, const float *, float);
    void (*attend)(float *, long, long, const float *, const float *, long, const float *, const float *, float, float, float *,
                   float *);
    float (*most)(const float *, long);
    void (*exponentials)(const float *, long, float, float, float *);
} Kernels;

#define KERNELS(name, suffix) {name, inverse_size_##suffix, product_##suffix, keep_##suffix, attend_##suffix, most_##suffix, exponentials_##suffix}

#if defined(__x86_64__)
#define W 16
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define BLOCKS BLOCK(12, 1) BLOCK(8, 1) BLOCK(4, 2) BLOCK(2, 4) BLOCK(1, 4) /* 16 or 8 sums of 32 registers */
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#include "kernels.h"
#undef W
#undef NAME
#undef TARGET
#undef BLOCKS
#undef EVENS
#undef ODDS

#define W 8
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define BLOCKS BLOCK(3, 1) BLOCK(2, 1) BLOCK(1, 2) /* 12 or 8 sums of 16 registers */
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#include "kernels.h"
#undef W
#undef NAME
#undef TARGET
#undef BLOCKS
#undef EVENS
#undef ODDS
#endif

#define W 4 /* what every 64-bit processor has: SSE2, NEON */
#define NAME(x) x##_plain
#define TARGET
#define BLOCKS BLOCK(2, 1) BLOCK(1, 1)
#define EVENS 0, 2, 4, 6
#define ODDS 1, 3, 5, 7
#include "kernels.h"

/* Those that this processor has, the best first. */
static const Kernels *kernels_named(const char *name) {
    static const Kernels plain = KERNELS("plain", plain);
#if defined(__x86_64__)
    static const Kernels avx512 = KERNELS("avx512", avx512), avx2 = KERNELS("avx2", avx2);
    int has_512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (has_512 && (!*name || !strcmp(name, "avx512"))) return &avx512;
    int has_2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_2 && (!*name || !strcmp(name, "avx2"))) return &avx2;
#endif
    return !*name || !strcmp(name, "plain") ? &plain : NULL;
}

/* ---------------------------------------------------------------------------------------------- the step */

typedef struct {
    Matrix qkv, o, gate_up, down;
} Layer;

typedef struct {
    PyObject_HEAD
    long L, H, K, D, C, F, V, context;
    float eps, gain;
    int half, far;
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
    const int64_t *ids, *row, *place, *last;
    float *k, *v, *logits;
    float *x, *joined, *mixed, *hidden, *wanted, *own; /* (N, C), (N, (H + 2K) D), (N, H D), (N, F), (heads, C), (threads, own_size) */
    float *more;
    long own_size, first; /* `last` counts from there */
} Job;

#define MEETINGS(m) (6 * (unsigned)(m)->L + 2)

static void share(Job *job, int thread, const Matrix *m, int how, long B, const float *x, const float *scale, float *out) {
    long first = m->count * thread / job->team.threads, last = m->count * (thread + 1) / job->team.threads;
    job->m->kernels->product(m, first, last, how, B, x, scale, out);
}

static void sizes(const Job *job, long B, const float *x, float *scale) {
    for (long b = 0; b < B; b++) scale[b] = job->m->kernels->inverse_size(x + b * job->m->C, job->m->C, job->m->eps);
}

/* The stream of N tokens through all layers. The norm is one number for a token: what comes out of a product is scaled,
 * instead of what goes in. The threads meet MEETINGS times. */
static void step(Team *team, int thread) {
    Job *job = (Job *)team;
    const Model *m = job->m;
    long N = job->N, H = m->H, K = m->K, D = m->D, C = m->C, group = H / K, joined = (H + 2 * K) * D, heads = job->heads;
    float *scale = job->own + thread * job->own_size, *scores = scale + AT_ONCE;
    unsigned n = 0;
    for (long b = thread; b < N; b += team->threads)
        memcpy(job->x + b * C, (const float *)m->table.buf + job->ids[b] * C, (size_t)C * sizeof(float));
    meet(team, &n);
    for (long i = 0; i < m->L; i++) {
        const Layer *layer = &m->layers[i];
        sizes(job, N, job->x, scale);
        share(job, thread, &layer->qkv, WRITTEN, N, job->x, scale, job->joined);
        meet(team, &n);
        for (int looking = 0; looking < 2; looking++) { /* first every key is written, then the queries look at them */
            for (long unit = thread; unit < N * K; unit += team->threads) {
                long b = unit / K, k = unit % K, at = ((i * job->rows + job->row[b]) * K + k) * job->places * D, place = job->place[b];
                float *queries = job->joined + b * joined + k * group * D, *key = job->joined + b * joined + (H + k) * D;
                const float *cos = (const float *)m->cos.buf + place * D, *sin = (const float *)m->sin.buf + place * D;
                if (looking)
                    m->kernels->attend(queries, group, D, job->k + at, job->v + at, place + 1, cos, sin, m->eps, m->gain, scores,
                                       job->mixed + (b * H + k * group) * D);
                else
                    m->kernels->keep(key, key + K * D, D, job->k + at + place * D, job->v + at + place * D, cos, sin, m->eps);
            }
            meet(team, &n);
        }
        share(job, thread, &layer->o, ADDED, N, job->mixed, scale, job->x);
        meet(team, &n);
        sizes(job, N, job->x, scale);
        share(job, thread, &layer->gate_up, GATED, N, job->x, scale, job->hidden);
        meet(team, &n);
        share(job, thread, &layer->down, ADDED, N, job->hidden, scale, job->x);
        meet(team, &n);
    }
    for (long b = thread; b < heads; b += team->threads)
        memcpy(job->wanted + b * C, job->x + (job->last[b] - job->first) * C, (size_t)C * sizeof(float));
    meet(team, &n);
    sizes(job, heads, job->wanted, scale);
    share(job, thread, &m->head, WRITTEN, heads, job->wanted, scale, job->logits);
}

#include "choosing.h"

/* ---------------------------------------------------------------------------------------------- matrices into panels */

static uint16_t rounded(float x) { /* to bfloat16, to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Rows (out, channels) into m's panels; with `gated` they are gates and then as many ups, 16 of each in a panel. */
static int pack(Matrix *m, const float *rows, long out, long channels, int gated, int half, int far) {
    long each = gated ? PANEL / 2 : PANEL, n = gated ? out / 2 : out;
    *m = (Matrix){channels, n, (n + each - 1) / each, half, far, NULL};
    size_t size = (size_t)(m->count * channels * PANEL) * (half ? 2 : 4);
    void *panels;
    if (posix_memalign(&panels, size >= 1 << 21 ? 1 << 21 : 64, size)) return -1;
#ifdef MADV_HUGEPAGE
    madvise(panels, size, MADV_HUGEPAGE); /* fewer pages to look up while reading from end to end */
#endif
    m->panels = panels;
    for (long p = 0; p < m->count; p++)
        for (long j = 0; j < PANEL; j++) {
            long within = p * each + j % each;
            const float *row = within < n ? rows + (j < each ? within : n + within) * channels : NULL;
            for (long c = 0; c < channels; c++) {
                float x = row ? row[c] : 0;
                if (half) ((uint16_t *)panels)[((p * channels + c) * (PANEL / 2) + j % (PANEL / 2)) * 2 + j / (PANEL / 2)] = rounded(x);
                else m->panels[(p * channels + c) * PANEL + j] = x;
            }
        }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- the border */

/* The buffer of an array of these sizes, contiguous; kind 'f' float32, 'l' int64, 'L' uint64, '?' bool. What is none is a
 * ValueError. */
static int take(PyObject *array, Py_buffer *view, const char *what, char kind, int writable, int dimensions, const long *sizes) {
    static const char *names[] = {"float32", "uint64", "int64", "bool"};
    int which = kind == 'f' ? 0 : kind == 'L' ? 1 : kind == 'l' ? 2 : 3;
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0))) {
        view->obj = NULL;
        return -1;
    }
    char got = view->format && view->format[0] && !view->format[1] ? view->format[0] : 0;
    int right = (got == kind || (got == 'q' && kind == 'l') || (got == 'Q' && kind == 'L')) && (which < 1 || which > 2 || view->itemsize == 8) && view->ndim == dimensions;
    for (int i = 0; right && i < dimensions; i++) right = view->shape[i] == sizes[i];
    if (right) return 0;
    char shape[200] = "";
    for (int i = 0, n = 0; i < dimensions && n < 150; i++) n += snprintf(shape + n, 30, i ? ", %ld" : "%ld", sizes[i]);
    PyErr_Format(PyExc_ValueError, "%s: expected a contiguous %s array of shape (%s)", what, names[which], shape);
    PyBuffer_Release(view);
    view->obj = NULL;
    return -1;
}

static int take_matrix(const Model *m, PyObject *array, Matrix *to, const char *what, long out, long channels, int gated) {
    Py_buffer view;
    if (take(array, &view, what, 'f', 0, 2, (long[]){out, channels})) return -1;
    int failed = pack(to, view.buf, out, channels, gated, m->half, m->far);
    PyBuffer_Release(&view);
    if (failed) PyErr_NoMemory();
    return failed;
}

static void model_free(PyObject *self) {
    Model *m = (Model *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (Py_buffer *view = &m->table; view <= &m->sin; view++)
        if (view->obj) PyBuffer_Release(view);
    for (long i = 0; m->layers && i < m->L; i++)
        for (Matrix *matrix = &m->layers[i].qkv; matrix <= &m->layers[i].down; matrix++) free(matrix->panels);
    free(m->layers);
    free(m->head.panels);
    if (m->scratch) free(m->scratch - 64);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Model(heads, kv_heads, head_size, width, hidden, vocab_size, context, eps, gain, table, cos, sin, head, layers, half, kind):
 * the weights, made ready once; layers is a tuple of (qkv, o, gate_up, down). kind: 'avx512', 'avx2', 'plain', or '' for the
 * best there is. table, cos and sin are kept, the others copied. */
static int model_init(PyObject *self, PyObject *arguments, PyObject *named) {
    Model *m = (Model *)self;
    PyObject *table, *cos, *sin, *head, *layers;
    const char *kind;
    int half;
    if (named && PyDict_Size(named)) return PyErr_SetString(PyExc_TypeError, "Model takes no names"), -1;
    if (m->kernels) return PyErr_SetString(PyExc_ValueError, "a model is made once"), -1;
    if (!PyArg_ParseTuple(arguments, "lllllllffOOOOO!ps", &m->H, &m->K, &m->D, &m->C, &m->F, &m->V, &m->context, &m->eps, &m->gain,
                          &table, &cos, &sin, &head, &PyTuple_Type, &layers, &half, &kind))
        return -1;
    long sizes[] = {m->H, m->K, m->D, m->C, m->F, m->V, m->context};
    for (int i = 0; i < 7; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 24) return PyErr_SetString(PyExc_ValueError, "a size is not in 1 to 2^24"), -1;
    if (m->H % m->K || m->D % 2) return PyErr_SetString(PyExc_ValueError, "heads must share kv_heads evenly, head_size be even"), -1;
    const Kernels *kernels = kernels_named(kind);
    if (!kernels) return PyErr_Format(PyExc_ValueError, "this processor has no %s", kind), -1;
    long H = m->H, K = m->K, D = m->D, C = m->C, F = m->F, L = (long)PyTuple_GET_SIZE(layers);
    m->half = half;
    m->far = (double)(m->V * C + L * C * (2 * (H + K) * D + 3 * F)) * (half ? 2 : 4) > FAR;
    if (take(table, &m->table, "table", 'f', 0, 2, (long[]){m->V, C}) || take(cos, &m->cos, "cos", 'f', 0, 2, (long[]){m->context, D}) ||
        take(sin, &m->sin, "sin", 'f', 0, 2, (long[]){m->context, D}) || take_matrix(m, head, &m->head, "head", m->V, C, 0))
        return -1;
    m->layers = calloc((size_t)L + 1, sizeof(Layer));
    if (!m->layers) return PyErr_NoMemory(), -1;
    for (m->L = 0; m->L < L;) {
        PyObject *qkv, *o, *gate_up, *down, *four = PyTuple_GET_ITEM(layers, m->L);
        Layer *layer = &m->layers[m->L++]; /* counted first, so that what is there of it is freed */
        if (!PyTuple_Check(four)) return PyErr_SetString(PyExc_TypeError, "a layer is a tuple (qkv, o, gate_up, down)"), -1;
        if (!PyArg_ParseTuple(four, "OOOO", &qkv, &o, &gate_up, &down)) return -1;
        if (take_matrix(m, qkv, &layer->qkv, "qkv", (H + 2 * K) * D, C, 0) || take_matrix(m, o, &layer->o, "o", C, H * D, 0) ||
            take_matrix(m, gate_up, &layer->gate_up, "gate_up", 2 * F, C, 1) || take_matrix(m, down, &layer->down, "down", C, F, 0))
            return -1;
    }
    m->kernels = kernels;
    return 0;
}

static float *carve(char **left, long n) { /* n floats of the scratch, a multiple of 64 bytes */
    float *here = (float *)*left;
    *left += ((size_t)n * sizeof(float) + 63) / 64 * 64;
    return here;
}

/* Memory for a call: the last one's if it is large enough, else new; NULL with an error. It is taken out of the model while it
 * is used, so that another call at the same time has its own. Its size stands in front of it. */
static char *borrow(Model *m, size_t size) {
    char *scratch = m->scratch;
    m->scratch = NULL;
    if (scratch && *(size_t *)(scratch - 64) >= size) return scratch;
    if (scratch) free(scratch - 64);
    void *fresh;
    if (posix_memalign(&fresh, 64, size + 64)) return (char *)PyErr_NoMemory();
    *(size_t *)fresh = size;
    return (char *)fresh + 64;
}

static void give_back(Model *m, char *scratch) {
    if (m->scratch) free(m->scratch - 64);
    m->scratch = scratch;
}

/* Memory for a job of N tokens, and `more` floats behind it at job->more. */
static char *furnish(Model *m, Job *job, long N, long threads, long more) {
    long own = AT_ONCE + job->places + 16, joined = (m->H + 2 * m->K) * m->D;
    long floats = N * (2 * m->C + joined + m->H * m->D + m->F) + threads * own + more + 7 * 16;
    char *scratch = borrow(m, (size_t)floats * sizeof(float)), *left = scratch;
    if (!scratch) return NULL;
    job->x = carve(&left, N * m->C), job->joined = carve(&left, N * joined), job->mixed = carve(&left, N * m->H * m->D);
    job->hidden = carve(&left, N * m->F), job->wanted = carve(&left, N * m->C), job->own = carve(&left, threads * own);
    job->own_size = own, job->more = carve(&left, more);
    return scratch;
}

/* Whether tokens are in the vocabulary, their rows in the cache, and their places, with `more` behind them; else an error. */
static int fit(const Model *m, long N, const int64_t *ids, const int64_t *row, const int64_t *place, long rows, long places, long more) {
    long room = (places < m->context ? places : m->context) - more;
    for (long i = 0; i < N; i++)
        if (ids[i] < 0 || ids[i] >= m->V || row[i] < 0 || row[i] >= rows || place[i] < 0 || place[i] >= room) {
            PyErr_Format(PyExc_IndexError, "token %ld: id %lld of %ld, row %lld of %ld, place %lld of %ld", i, (long long)ids[i], m->V,
                         (long long)row[i], rows, (long long)place[i], room);
            return 0;
        }
    return 1;
}

/* step(ids, rows, places, last, k, v, logits, threads): read the new tokens ids (N,), write their keys and values to places (N,) of
 * rows (N,) of the cache k, v (L, rows, K, places, D), and to logits (B, V) the scores of what may follow those of the tokens
 * that `last` (B,), ascending, names. A row's tokens must be there in order, and all before them in the cache. */
static PyObject *model_step(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    Model *m = (Model *)self;
    if (count != 8) return PyErr_SetString(PyExc_TypeError, "step takes 8 arguments"), NULL;
    if (!m->kernels) return PyErr_SetString(PyExc_ValueError, "the model was not made"), NULL;
    long threads = PyLong_AsLong(given[7]);
    if (threads == -1 && PyErr_Occurred()) return NULL;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    Py_ssize_t N = PyObject_Length(given[0]), B = N < 0 ? -1 : PyObject_Length(given[3]), rows = 0, places = 0;
    if (B < 0) return NULL;
    Py_buffer view[7] = {{0}};
    PyObject *result = NULL;
    if (PyObject_GetBuffer(given[4], &view[4], PyBUF_C_CONTIGUOUS)) goto done;
    if (view[4].ndim == 5) rows = view[4].shape[1], places = view[4].shape[3];
    PyBuffer_Release(&view[4]);
    const long tokens[] = {N}, lasts[] = {B}, cache[] = {m->L, rows, m->K, places, m->D}, scores[] = {B, m->V};
    if (take(given[0], &view[0], "ids", 'l', 0, 1, tokens) || take(given[1], &view[1], "rows", 'l', 0, 1, tokens) ||
        take(given[2], &view[2], "places", 'l', 0, 1, tokens) || take(given[3], &view[3], "last", 'l', 0, 1, lasts) ||
        take(given[4], &view[4], "k", 'f', 1, 5, cache) || take(given[5], &view[5], "v", 'f', 1, 5, cache) ||
        take(given[6], &view[6], "logits", 'f', 1, 2, scores))
        goto done;
    const int64_t *ids = view[0].buf, *row = view[1].buf, *place = view[2].buf, *last = view[3].buf;
    if (!fit(m, N, ids, row, place, rows, places, 0)) goto done;
    for (long b = 0; b < B; b++)
        if (last[b] < (b ? last[b - 1] + 1 : 0) || last[b] >= N) {
            PyErr_Format(PyExc_IndexError, "last %ld: %lld is not ascending and below %zd", b, (long long)last[b], N);
            goto done;
        }
    Job job = {.team.work = step, .m = m, .rows = rows, .places = places, .k = view[4].buf, .v = view[5].buf};
    char *scratch = furnish(m, &job, N < AT_ONCE ? N : AT_ONCE, threads, 0);
    if (!scratch) goto done;
    Py_BEGIN_ALLOW_THREADS;
    for (long first = 0, b = 0; first < N; first += AT_ONCE, b += job.heads) {
        job.N = N - first < AT_ONCE ? N - first : AT_ONCE, job.first = first, job.last = last + b;
        for (job.heads = 0; b + job.heads < B && last[b + job.heads] < first + job.N;) job.heads++;
        job.ids = ids + first, job.row = row + first, job.place = place + first, job.logits = (float *)view[6].buf + b * m->V;
        work_together(&job.team, (int)threads, MEETINGS(m));
    }
    Py_END_ALLOW_THREADS;
    give_back(m, scratch);
    result = Py_NewRef(Py_None);
done:
    for (int i = 0; i < 7; i++)
        if (view[i].obj) PyBuffer_Release(&view[i]);
    return result;
}

/* choose(logits, scores, masks, kinds, temperature, top_k, top_p, min_p, seeds, positions, ids, logprobs,
 * threads): the next ids (B,) and their
 * logprobs (B,) of rows of logits (B, V), chosen by scores (B, V) without what the row of masks (kinds, V) forbids that `kinds`
 * (B,) names. */
static PyObject *model_choose(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    Model *m = (Model *)self;
    if (count != 13) return PyErr_SetString(PyExc_TypeError, "choose takes 13 arguments"), NULL;
    if (!m->kernels) return PyErr_SetString(PyExc_ValueError, "the model was not made"), NULL;
    long threads = PyLong_AsLong(given[12]);
    if (threads == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t B = PyObject_Length(given[3]), kinds = B < 0 ? -1 : PyObject_Length(given[2]);
    if (kinds < 0) return NULL;
    threads = threads > B ? B : threads;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    static const char *names[] = {"logits", "scores", "masks", "kinds", "temperature", "top_k", "top_p", "min_p", "seeds", "positions", "ids", "logprobs"};
    static const char types[] = "ff?lflffLllf";
    const long wide[] = {B, m->V}, masks[] = {kinds, m->V};
    Py_buffer view[12] = {{0}};
    PyObject *result = NULL;
    for (int i = 0; i < 12; i++)
        if (take(given[i], &view[i], names[i], types[i], i > 9, i < 3 ? 2 : 1, i == 2 ? masks : wide)) goto done;
    const int64_t *kind = view[3].buf;
    for (long b = 0; b < B; b++)
        if (kind[b] < 0 || kind[b] >= kinds) {
            PyErr_Format(PyExc_IndexError, "kinds %ld: %lld of %zd", b, (long long)kind[b], kinds);
            goto done;
        }
    long own = CHOICE_SIZE(m);
    char *scratch = borrow(m, (size_t)(threads * own) * sizeof(float));
    if (!scratch) goto done;
    Choice c = {.team.work = choose, .m = m, .B = B, .logits = view[0].buf, .scores = view[1].buf, .masks = view[2].buf, .kind = kind,
                .temperature = view[4].buf, .top_k = view[5].buf, .top_p = view[6].buf, .min_p = view[7].buf, .seed = view[8].buf,
                .position = view[9].buf, .ids = view[10].buf, .logprobs = view[11].buf, .own = (float *)scratch, .own_size = own};
    Py_BEGIN_ALLOW_THREADS;
    work_together(&c.team, B * m->V > ALONE ? (int)threads : 1, 0);
    Py_END_ALLOW_THREADS;
    give_back(m, scratch);
    result = Py_NewRef(Py_None);
done:
    for (int i = 0; i < 12; i++)
        if (view[i].obj) PyBuffer_Release(&view[i]);
    return result;
}

/* write(ids, rows, places, k, v, masks, kinds, temperature, top_k, top_p, min_p, seeds, positions, stops, chosen, logprobs, threads):
 * `step` and `choose` in turn, as often as chosen and logprobs (n, B) have rows, or until a row chose its one of the stops (B,).
 * How often that was. */
static PyObject *model_write(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    Model *m = (Model *)self;
    if (count != 17) return PyErr_SetString(PyExc_TypeError, "write takes 17 arguments"), NULL;
    if (!m->kernels) return PyErr_SetString(PyExc_ValueError, "the model was not made"), NULL;
    long threads = PyLong_AsLong(given[16]);
    if (threads == -1 && PyErr_Occurred()) return NULL;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    Py_ssize_t B = PyObject_Length(given[0]), kinds = PyObject_Length(given[5]), n = PyObject_Length(given[14]), rows = 0, places = 0;
    if (B < 0 || kinds < 0 || n < 0) return NULL;
    if (B > AT_ONCE) return PyErr_Format(PyExc_ValueError, "write: expected at most %d rows", AT_ONCE);
    Py_buffer view[16] = {{0}};
    PyObject *result = NULL;
    if (PyObject_GetBuffer(given[3], &view[3], PyBUF_C_CONTIGUOUS)) goto done;
    if (view[3].ndim == 5) rows = view[3].shape[1], places = view[3].shape[3];
    PyBuffer_Release(&view[3]);
    static const char *names[] = {"ids", "rows", "places", "k", "v", "masks", "kinds", "temperature", "top_k", "top_p", "min_p",
                                  "seeds", "positions", "stops", "chosen", "logprobs"};
    static const char types[] = "lllff?lflffLlllf";
    const long cache[] = {m->L, rows, m->K, places, m->D}, masks[] = {kinds, m->V}, out[] = {n, B}, one[] = {B};
    for (int i = 0; i < 16; i++) {
        int of = i == 3 || i == 4 ? 5 : i == 5 || i > 13 ? 2 : 1;
        if (take(given[i], &view[i], names[i], types[i], of == 5 || i > 13, of, of == 5 ? cache : i == 5 ? masks : i > 13 ? out : one)) goto done;
    }
    const int64_t *kind = view[6].buf, *stop = view[13].buf;
    if (!fit(m, B, view[0].buf, view[1].buf, view[2].buf, rows, places, n ? n - 1 : 0)) goto done;
    for (long b = 0; b < B; b++)
        if (kind[b] < 0 || kind[b] >= kinds) {
            PyErr_Format(PyExc_IndexError, "kinds %ld: %lld of %zd", b, (long long)kind[b], kinds);
            goto done;
        }
    Job job = {.team.work = step, .m = m, .N = B, .heads = B, .rows = rows, .places = places, .ids = view[0].buf, .row = view[1].buf,
               .k = view[3].buf, .v = view[4].buf};
    long own = CHOICE_SIZE(m), choosers = threads < B ? threads : B > 0 ? B : 1;
    char *scratch = furnish(m, &job, B, threads, choosers * own + B * m->V + 16 + 6 * B);
    if (!scratch) goto done;
    int64_t *place = (int64_t *)(job.more + choosers * own), *position = place + B, *each = position + B;
    job.logits = job.more + choosers * own + (6 * B + 15) / 16 * 16;
    for (long b = 0; b < B; b++) place[b] = ((int64_t *)view[2].buf)[b], position[b] = ((int64_t *)view[12].buf)[b], each[b] = b;
    job.place = place, job.last = each;
    Choice c = {.team.work = choose, .m = m, .B = B, .logits = job.logits, .scores = job.logits, .masks = view[5].buf, .kind = kind,
                .temperature = view[7].buf, .top_k = view[8].buf, .top_p = view[9].buf, .min_p = view[10].buf, .seed = view[11].buf,
                .position = position, .own = job.more, .own_size = own};
    long done = 0;
    Py_BEGIN_ALLOW_THREADS;
    for (int stopped = 0; done < n && !stopped; done++) {
        work_together(&job.team, (int)threads, MEETINGS(m));
        c.ids = (int64_t *)view[14].buf + done * B, c.logprobs = (float *)view[15].buf + done * B;
        work_together(&c.team, B * m->V > ALONE ? (int)choosers : 1, 0);
        for (long b = 0; b < B; b++) stopped |= c.ids[b] == stop[b], place[b]++, position[b]++;
        job.ids = c.ids;
    }
    Py_END_ALLOW_THREADS;
    give_back(m, scratch);
    result = PyLong_FromLong(done);
done:
    for (int i = 0; i < 16; i++)
        if (view[i].obj) PyBuffer_Release(&view[i]);
    return result;
}

static PyObject *model_kind(PyObject *self, void *nothing) {
    (void)nothing;
    const Kernels *kernels = ((Model *)self)->kernels;
    return PyUnicode_FromString(kernels ? kernels->name : "");
}

static PyMethodDef model_methods[] = {
    {"step", (PyCFunction)(void (*)(void))model_step, METH_FASTCALL, "from tokens to scores"},
    {"choose", (PyCFunction)(void (*)(void))model_choose, METH_FASTCALL, "from scores to tokens"},
    {"write", (PyCFunction)(void (*)(void))model_write, METH_FASTCALL, "both, several times"},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef model_members[] = {{"kind", model_kind, NULL, "the vectors it is written for", NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot model_slots[] = {
    {Py_tp_init, model_init}, {Py_tp_dealloc, model_free}, {Py_tp_methods, model_methods}, {Py_tp_getset, model_members},
    {Py_tp_new, PyType_GenericNew}, {0, NULL},
};
static PyType_Spec model_spec = {"sprout.engine._native.Model", sizeof(Model), 0, Py_TPFLAGS_DEFAULT, model_slots};

static int add_types(PyObject *module) {
    pthread_atfork(NULL, NULL, forget_workers);
    PyObject *model = PyType_FromSpec(&model_spec);
    int failed = !model || PyModule_AddObjectRef(module, "Model", model);
    Py_XDECREF(model);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, add_types}, {0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", "a decoding step", 0, NULL, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module); }
