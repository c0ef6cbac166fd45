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
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define PANEL 32
#define MOST_THREADS 64
#define FAR 32e6 /* bytes of weights from which on it pays to ask for them AHEAD (floats), but for one or two rows: at 400 MB 1.1
                  * to 1.3 times the speed, at 64 MB 0.95 to 1.2, at 4 MB 0.8 (2 threads) */
#define AHEAD 512
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

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
    void (*attend)(float *, long, float *, const float *, long, float *, float *, long, const float *, const float *, float,
                   float, float *, float *);
} Kernels;

#define KERNELS(name, suffix) {name, inverse_size_##suffix, product_##suffix, attend_##suffix}

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

/* ---------------------------------------------------------------------------------------------- threads */

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Workers that wait for a step, turning in place for a moment (a step follows the last within a fraction of a millisecond
 * while somebody is written to) and then asleep. One step at a time has them; another one meanwhile works alone. */
#define PATIENCE 20000 /* turns, each of 40 to 140 cycles, before a worker sleeps */

struct Job;
static void work(struct Job *job, int thread);

static struct {
    pthread_mutex_t busy, lock;
    pthread_cond_t wake;
    atomic_uint call;     /* number of the call x 256 + threads that take part; workers wait for another one */
    atomic_int sleepers;
    struct Job *_Atomic job;
    int workers;
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, NULL, 0};

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
        if (start.thread < (int)(call & 255)) work(atomic_load(&pool.job), start.thread);
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
    void *scratch; /* of the last step, for the next one */
    size_t scratch_size;
} Model;

typedef struct Job {
    const Model *m;
    long B, rows, places; /* rows and places of the cache */
    const int64_t *ids, *row, *start;
    float *k, *v, *logits;
    float *x, *joined, *mixed, *hidden, *own; /* (B, C), (B, (H + 2K) D), (B, H D), (B, F); (threads, B + places + 16) */
    int threads;
    _Alignas(64) atomic_uint arrived; /* in a cache line of its own: it changes while the others read the rest */
} Job;

/* Wait until all threads are here, for the n-th time. */
static void meet(Job *job, unsigned *n) {
    if (job->threads == 1) return;
    unsigned all = ++*n * (unsigned)job->threads;
    atomic_fetch_add(&job->arrived, 1);
    for (int i = 0; (int)(atomic_load(&job->arrived) - all) < 0; i++) {
        if (i < PATIENCE) pause_briefly();
        else sched_yield(); /* there are fewer processors than threads */
    }
}

static void share(Job *job, int thread, const Matrix *m, int how, const float *x, const float *scale, float *out) {
    long first = m->count * thread / job->threads, last = m->count * (thread + 1) / job->threads;
    job->m->kernels->product(m, first, last, how, job->B, x, scale, out);
}

static void work(Job *job, int thread) {
    const Model *m = job->m;
    const Kernels *kernels = m->kernels;
    long B = job->B, H = m->H, K = m->K, D = m->D, C = m->C, group = H / K, joined = (H + 2 * K) * D;
    /* The norm is one number for a row: what comes out of a product is scaled, instead of what goes in. */
    float *scale = job->own + thread * (B + job->places + 16), *scores = scale + B;
    unsigned n = 0;
    for (long b = thread; b < B; b += job->threads)
        memcpy(job->x + b * C, (const float *)m->table.buf + job->ids[b] * C, (size_t)C * sizeof(float));
    meet(job, &n);
    for (long i = 0; i < m->L; i++) {
        const Layer *layer = &m->layers[i];
        for (long b = 0; b < B; b++) scale[b] = kernels->inverse_size(job->x + b * C, C, m->eps);
        share(job, thread, &layer->qkv, WRITTEN, job->x, scale, job->joined);
        meet(job, &n);
        for (long unit = thread; unit < B * K; unit += job->threads) {
            long b = unit / K, k = unit % K, at = ((i * job->rows + job->row[b]) * K + k) * job->places * D;
            float *row = job->joined + b * joined;
            const float *cos = (const float *)m->cos.buf + job->start[b] * D, *sin = (const float *)m->sin.buf + job->start[b] * D;
            kernels->attend(row + k * group * D, group, row + (H + k) * D, row + (H + K + k) * D, D, job->k + at, job->v + at,
                            job->start[b], cos, sin, m->eps, m->gain, scores, job->mixed + (b * H + k * group) * D);
        }
        meet(job, &n);
        share(job, thread, &layer->o, ADDED, job->mixed, scale, job->x);
        meet(job, &n);
        for (long b = 0; b < B; b++) scale[b] = kernels->inverse_size(job->x + b * C, C, m->eps);
        share(job, thread, &layer->gate_up, GATED, job->x, scale, job->hidden);
        meet(job, &n);
        share(job, thread, &layer->down, ADDED, job->hidden, scale, job->x);
        meet(job, &n);
    }
    for (long b = 0; b < B; b++) scale[b] = kernels->inverse_size(job->x + b * C, C, m->eps);
    share(job, thread, &m->head, WRITTEN, job->x, scale, job->logits);
    if (thread) atomic_fetch_add(&job->arrived, 1); /* the job may be gone from here on */
    else meet(job, &n);
}

static void run(Job *job, int wanted) {
    int alone = wanted < 2 || pthread_mutex_trylock(&pool.busy);
    job->threads = alone ? 1 : threads_there(wanted);
    if (job->threads > 1) {
        atomic_store(&pool.job, job);
        atomic_store(&pool.call, ((atomic_load(&pool.call) >> 8) + 1) << 8 | (unsigned)job->threads);
        if (atomic_load(&pool.sleepers)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_broadcast(&pool.wake);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    work(job, 0);
    if (!alone) pthread_mutex_unlock(&pool.busy);
}

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

/* The buffer of an array of these sizes, contiguous; kind 'f' float32, 'l' int64. What it isn't, is a ValueError. */
static int take(PyObject *array, Py_buffer *view, const char *what, char kind, int writable, int dimensions, const long *sizes) {
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0))) {
        view->obj = NULL;
        return -1;
    }
    char got = view->format && view->format[0] && !view->format[1] ? view->format[0] : '?';
    int right = kind == 'f' ? got == 'f' : (got == 'l' || got == 'q') && view->itemsize == 8;
    right = right && view->ndim == dimensions;
    for (int i = 0; right && i < dimensions; i++) right = view->shape[i] == sizes[i];
    if (right) return 0;
    char shape[200] = "";
    for (int i = 0, n = 0; i < dimensions && n < 150; i++) n += snprintf(shape + n, 30, i ? ", %ld" : "%ld", sizes[i]);
    PyErr_Format(PyExc_ValueError, "%s: expected a contiguous %s array of shape (%s)", what, kind == 'f' ? "float32" : "int64", shape);
    PyBuffer_Release(view);
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
    free(m->scratch);
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

static size_t carve(size_t *used, long n) { /* n floats of the scratch, at a multiple of 64 bytes */
    size_t at = *used;
    *used += ((size_t)n * sizeof(float) + 63) / 64 * 64;
    return at;
}

/* step(ids, rows, starts, k, v, logits, threads): write the keys and values of the new tokens ids (B,) to places starts (B,) of
 * rows (B,) of the cache k, v (L, rows, K, places, D), and the scores of what may follow to logits (B, V). */
static PyObject *model_step(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    Model *m = (Model *)self;
    if (count != 7) return PyErr_SetString(PyExc_TypeError, "step takes 7 arguments"), NULL;
    if (!m->kernels) return PyErr_SetString(PyExc_ValueError, "the model was not made"), NULL;
    long threads = PyLong_AsLong(given[6]);
    if (threads == -1 && PyErr_Occurred()) return NULL;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    Py_ssize_t B = PyObject_Length(given[0]), rows = 0, places = 0;
    if (B < 0) return NULL;
    Py_buffer view[6] = {{0}};
    PyObject *result = NULL;
    if (PyObject_GetBuffer(given[3], &view[3], PyBUF_C_CONTIGUOUS)) goto done;
    if (view[3].ndim == 5) rows = view[3].shape[1], places = view[3].shape[3];
    PyBuffer_Release(&view[3]);
    const long some[] = {B}, cache[] = {m->L, rows, m->K, places, m->D}, scores[] = {B, m->V};
    static const char *what[] = {"ids", "rows", "starts", "k", "v", "logits"};
    for (int i = 0; i < 6; i++)
        if (take(given[i], &view[i], what[i], i < 3 ? 'l' : 'f', i > 2, i < 3 ? 1 : i < 5 ? 5 : 2, i < 3 ? some : i < 5 ? cache : scores))
            goto done;
    const int64_t *ids = view[0].buf, *row = view[1].buf, *start = view[2].buf;
    long room = places < m->context ? places : m->context;
    for (long b = 0; b < B; b++)
        if (ids[b] < 0 || ids[b] >= m->V || row[b] < 0 || row[b] >= rows || start[b] < 0 || start[b] >= room) {
            PyErr_Format(PyExc_IndexError, "row %ld: id %lld of %ld, cache row %lld of %zd, place %lld of %ld", b, (long long)ids[b], m->V,
                         (long long)row[b], rows, (long long)start[b], room);
            goto done;
        }
    size_t used = 0, x = carve(&used, B * m->C), joined = carve(&used, B * (m->H + 2 * m->K) * m->D), mixed = carve(&used, B * m->H * m->D),
           hidden = carve(&used, B * m->F), own = carve(&used, threads * (B + places + 16));
    /* Taken out while it is used, so that another step at the same time makes its own. */
    char *scratch = m->scratch;
    size_t size = m->scratch_size;
    m->scratch = NULL;
    if (!scratch || size < used) {
        void *fresh;
        free(scratch);
        if (posix_memalign(&fresh, 64, used + 64)) {
            PyErr_NoMemory();
            goto done;
        }
        scratch = fresh, size = used;
    }
    Job job = {m, B, rows, places, ids, row, start, view[3].buf, view[4].buf, view[5].buf, (float *)(scratch + x), (float *)(scratch + joined),
               (float *)(scratch + mixed), (float *)(scratch + hidden), (float *)(scratch + own), 1, 0};
    Py_BEGIN_ALLOW_THREADS run(&job, (int)threads);
    Py_END_ALLOW_THREADS free(m->scratch);
    m->scratch = scratch, m->scratch_size = size;
    result = Py_NewRef(Py_None);
done:
    for (int i = 0; i < 6; i++)
        if (view[i].obj) PyBuffer_Release(&view[i]);
    return result;
}

static PyObject *model_kind(PyObject *self, void *nothing) {
    (void)nothing;
    const Kernels *kernels = ((Model *)self)->kernels;
    return PyUnicode_FromString(kernels ? kernels->name : "");
}

static PyMethodDef model_methods[] = {
    {"step", (PyCFunction)(void (*)(void))model_step, METH_FASTCALL, "one new token for each row"},
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
