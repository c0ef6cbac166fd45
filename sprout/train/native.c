/* The training step in C: gradients of a GPT without a compiler at run time, a pass over memory for every small
 * operation, or a wait between threads. Each thread takes whole rows of the batch, forwards and backwards, in room of its
 * own; at the end the threads' gradients are added up, always in the same order.
 *
 * It computes what `GPT` and `token_losses` in sprout/model/gpt.py do, which the tests compare it with. step.h has the
 * mathematics and is included once for each instruction set; here are memory, threads and the border to Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define BLOCK 64         /* queries whose attention is computed at once */
#define CHUNK 256        /* tokens whose logits exist at once */
#define PAGE ((size_t)2 << 20)
#define STRETCH (8 * PAGE)
#define EMBED_EPS 1e-20f /* as in gpt.py */

typedef struct { int L, C, H, K, D, J, F, V, T, again; float eps, gain; } Shape; /* again: make layers once more on the way back */
typedef struct { float *qkv, *o, *gate_up, *down, *qkv_back, *o_back, *gate_up_back, *down_back; } Packed;
typedef struct { float *qkv, *o, *gate_up, *down; } LayerGrads;
typedef struct { float *embed, *head; LayerGrads *layers; } Grads;
typedef struct { const float *embed, *cos, *sin; float *head, *head_back; Packed *layers; } Weights;

/* What a thread needs for a row of T tokens. */
typedef struct {
    int T, apart, *start; /* rows of scores are `apart`; start[t]: where the document of token t begins */
    float **x, **qkv, **mid, **mixed, **gu, **sums, **r1, **r2, **rh; /* of each layer, kept for the way back */
    float *y, *h, *dx, *dy, *dmixed, *dqkv, *logits, *rl;
    float *scores, *dscores, *keys, *values, *keys_turned, *values_turned, *block, *left, *right;
    float *flat; /* the gradients, one behind the other */
    Grads grads;
} Room;

typedef void (*RowFunction)(const Shape *, const Weights *, Room *, const int64_t *, const int64_t *, const float *, float *);

#define BODY "../train/step.h"
#include "../optim/sets.h"

typedef struct { RowFunction row; Right (*right)(float *, const float *, long, int, int, int), (*right_turned)(float *, const float *, long, int, int); } Set;

static const Set SETS[] = {
#if defined(__x86_64__)
    {row_int16, right_int16, right_turned_int16},
    {row_avx512, right_avx512, right_turned_avx512},
    {row_avx2, right_avx2, right_turned_avx2},
#endif
    {row_plain, right_plain, right_turned_plain},
};

/* ---- memory ---- */

typedef struct {
    Shape s;
    const Set *set;
    int threads;
    long numbers; /* of all gradients */
    size_t bytes; /* in use */
    Weights weights;
    Room *rooms;
    void **blocks; /* the stretches that were allocated */
    int count, most, failed, busy;
    char *at; /* where the last stretch is free, and how much of it */
    size_t left;
} Step;

/* Pages of 2 MB for what is large, where the system has them: fewer to look up, and to make. */
static void large_pages(void *p, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const size_t from = UP((size_t)p, PAGE), to = ((size_t)p + bytes) / PAGE * PAGE;
    if (to > from) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

/* Cut from stretches of memory. Of the last one only what was cut is touched, and so takes room. */
static void *take(Step *p, size_t bytes) {
    bytes = UP(bytes, 64) + 256; /* some more at the end: a vector that begins inside may end outside */
    if (p->count == p->most) {
        int most = p->most ? 2 * p->most : 64;
        void **blocks = realloc(p->blocks, most * sizeof *blocks);
        if (!blocks) return p->failed = 1, NULL;
        p->blocks = blocks, p->most = most;
    }
    void *at = p->at;
    if (bytes <= p->left) p->at += bytes, p->left -= bytes;
    else {
        const size_t size = UP(bytes > STRETCH / 2 ? bytes : STRETCH, PAGE);
        if (posix_memalign(&at, PAGE, size)) return p->failed = 1, NULL;
        large_pages(p->blocks[p->count++] = at, size);
        if (bytes <= STRETCH / 2) p->at = (char *)at + bytes, p->left = size - bytes;
    }
    p->bytes += bytes;
    return memset(at, 0, bytes);
}

static float *floats(Step *p, long n) { return take(p, n * sizeof(float)); }

/* n numbers for each layer; with `shared` the same ones for all. */
static float **layers_of(Step *p, long n, int count, int shared) {
    float **all = take(p, count * sizeof *all);
    for (int l = 0; all && l < count; l++) all[l] = shared && l ? all[0] : floats(p, n);
    return all;
}

static void release(Step *p) {
    for (int i = 0; i < p->count; i++) free(p->blocks[i]);
    free(p->blocks);
    free(p);
}

static void place(const Shape *s, Grads *g, float *at) {
    g->embed = at, at += (long)s->V * s->C;
    g->head = at, at += (long)s->V * s->C;
    for (int l = 0; l < s->L; l++) {
        LayerGrads *m = g->layers + l;
        m->qkv = at, at += (long)s->J * s->C;
        m->o = at, at += (long)s->C * s->H * s->D;
        m->gate_up = at, at += 2L * s->F * s->C;
        m->down = at, at += (long)s->C * s->F;
    }
}

static Step *build(Shape s, const Set *set, int threads) {
    Step *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->s = s, p->set = set, p->threads = threads;
    const long T = UP(s.T, 64), C = s.C, J = s.J, F = s.F, wide = (long)s.H * s.D, V = UP(s.V, 64), D = UP(s.D, 64);
    const long C64 = UP(C, 64), F64 = UP(F, 64), J64 = UP(J, 64), W64 = UP(wide, 64);
    p->numbers = 2L * s.V * C + s.L * (J * C + C * wide + 3 * F * C);
    p->weights.head = floats(p, C * V), p->weights.head_back = floats(p, V * C64);
    p->weights.layers = take(p, s.L * sizeof(Packed));
    for (int l = 0; l < s.L && !p->failed; l++) {
        Packed *m = p->weights.layers + l;
        m->qkv = floats(p, C * J64), m->qkv_back = floats(p, J * C64);
        m->o = floats(p, wide * C64), m->o_back = floats(p, C * W64);
        m->gate_up = floats(p, C * UP(2 * F, 64)), m->gate_up_back = floats(p, 2 * F * C64);
        m->down = floats(p, F * C64), m->down_back = floats(p, C * F64);
    }
    p->rooms = take(p, threads * sizeof(Room));
    for (int i = 0; i < threads && !p->failed; i++) {
        Room *w = p->rooms + i;
        w->T = s.T, w->apart = T;
        w->start = take(p, T * sizeof(int));
        w->x = layers_of(p, T * C, s.L + 1, 0), w->mid = layers_of(p, T * C, s.L, s.again);
        w->qkv = layers_of(p, T * J, s.L, s.again), w->mixed = layers_of(p, T * wide, s.L, s.again);
        w->gu = layers_of(p, T * 2 * F, s.L, s.again), w->sums = layers_of(p, T * s.H, s.L, s.again);
        w->r1 = layers_of(p, T, s.L, s.again), w->r2 = layers_of(p, T, s.L, s.again);
        w->rh = layers_of(p, T * (s.H + s.K), s.L, s.again);
        w->y = floats(p, T * C), w->h = floats(p, T * F), w->dx = floats(p, T * C), w->dy = floats(p, T * C);
        w->dmixed = floats(p, T * wide), w->dqkv = floats(p, T * J);
        w->logits = floats(p, CHUNK * V), w->rl = floats(p, CHUNK);
        w->scores = floats(p, BLOCK * T), w->dscores = floats(p, BLOCK * T);
        w->keys = floats(p, T * D), w->values = floats(p, T * D);
        w->keys_turned = floats(p, T * D), w->values_turned = floats(p, T * D), w->block = floats(p, BLOCK * D);
        long widest = F64 > W64 ? F64 : W64;
        widest = widest > C64 ? widest : C64;
        long rows = T > CHUNK ? T : CHUNK;
        w->right = floats(p, rows * widest);
        long left = 2 * F > J ? 2 * F : J;
        left = T * (left > C ? left : C), left = left > CHUNK * V ? left : CHUNK * V;
        w->left = floats(p, left + 8 * rows); /* and the last tile's rows */
        w->flat = i ? floats(p, p->numbers) : NULL; /* the first thread writes into the result */
        w->grads.layers = take(p, s.L * sizeof(LayerGrads));
        if (i && !p->failed) place(&s, &w->grads, w->flat);
    }
    if (p->failed) return release(p), NULL;
    return p;
}

/* ---- threads ---- */

typedef struct {
    Step *p;
    int rows;
    const float **matrices; /* embed, head, then q, k, v, o, gate, up, down of each layer */
    const int64_t *ids, *targets;
    const int32_t *segments;
    const float *scales;
    float *nats, *gradient;
} Work;
typedef struct { const Work *work; void (*what)(const Work *, int); int i; } Job;

static void *job(void *given) {
    Job *j = given;
    j->what(j->work, j->i);
    return NULL;
}

static void everybody(const Work *work, void (*what)(const Work *, int)) {
    int n = work->p->threads;
    pthread_t ids[256];
    Job jobs[256];
    int begun[256];
    for (int i = 1; i < n; i++) {
        jobs[i] = (Job){work, what, i};
        begun[i] = !pthread_create(&ids[i], NULL, job, &jobs[i]);
    }
    what(work, 0);
    for (int i = 1; i < n; i++)
        if (begun[i]) pthread_join(ids[i], NULL);
        else what(work, i); /* no thread to be had: then one after the other */
}

/* The weights in the order in which products read them: each matrix once for the way there and once for the way back. */
static void pack_some(const Work *k, int me) {
    Step *p = k->p;
    const Shape *s = &p->s;
    const Set *set = p->set;
    const int C = s->C, F = s->F, wide = s->H * s->D, narrow = s->K * s->D;
    float *joined = me ? p->rooms[me].flat : k->gradient; /* free until the rows are done */
    int at = 0;
    if (at++ % p->threads == me) {
        set->right_turned(p->weights.head, k->matrices[1], C, C, s->V);
        /* Its gradient's logits are filled up to thirty-twos; so are the rows that they meet, with zeros. */
        set->right(p->weights.head_back, k->matrices[1], C, s->V, C, UP(s->V, 32));
    }
    for (int l = 0; l < s->L; l++) {
        const float **m = k->matrices + 2 + 7 * l;
        Packed *to = p->weights.layers + l;
        if (at++ % p->threads == me) {
            memcpy(joined, m[0], sizeof(float) * wide * C);
            memcpy(joined + (long)wide * C, m[1], sizeof(float) * narrow * C);
            memcpy(joined + (long)(wide + narrow) * C, m[2], sizeof(float) * narrow * C);
            set->right_turned(to->qkv, joined, C, C, s->J);
            set->right(to->qkv_back, joined, C, s->J, C, s->J);
            set->right_turned(to->o, m[3], wide, wide, C);
            set->right(to->o_back, m[3], wide, C, wide, C);
        }
        if (at++ % p->threads == me) {
            memcpy(joined, m[4], sizeof(float) * F * C);
            memcpy(joined + (long)F * C, m[5], sizeof(float) * F * C);
            set->right_turned(to->gate_up, joined, C, C, 2 * F);
            set->right(to->gate_up_back, joined, C, 2 * F, C, 2 * F);
            set->right_turned(to->down, m[6], F, F, C);
            set->right(to->down_back, m[6], F, C, F, C);
        }
    }
}

static void do_rows(const Work *k, int me) {
    Step *p = k->p;
    Room *w = p->rooms + me;
    float *flat = me ? w->flat : k->gradient;
    memset(flat, 0, p->numbers * sizeof(float));
    if (!me) place(&p->s, &w->grads, flat);
    const long T = p->s.T;
    for (int r = me; r < k->rows; r += p->threads) {
        for (int t = 0; t < T; t++)
            w->start[t] = t && k->segments[r * T + t] == k->segments[r * T + t - 1] ? w->start[t - 1] : t;
        p->set->row(&p->s, &p->weights, w, k->ids + r * T, k->targets + r * T, k->scales + r * T, k->nats + r * T);
    }
}

static void add_up(const Work *k, int me) {
    Step *p = k->p;
    long from = p->numbers * me / p->threads, to = p->numbers * (me + 1) / p->threads;
    for (int i = 1; i < p->threads; i++)
        for (long j = from; j < to; j++) k->gradient[j] += p->rooms[i].flat[j];
}

/* ---- the border ---- */

static const char NAME[] = "sprout.train.step";

static void forget(PyObject *capsule) { release(PyCapsule_GetPointer(capsule, NAME)); }

static PyObject *step_new(PyObject *self, PyObject *args) {
    (void)self;
    Shape s = {0};
    const char *name;
    int threads;
    if (!PyArg_ParseTuple(args, "siiiiiiiiipff", &name, &threads, &s.L, &s.C, &s.H, &s.K, &s.D, &s.F, &s.V, &s.T, &s.again, &s.eps,
                          &s.gain)) return NULL;
    s.J = (s.H + 2 * s.K) * s.D;
    if (threads < 1 || threads > 256) return PyErr_SetString(PyExc_ValueError, "threads: expected 1 to 256"), NULL;
    if (s.L < 1 || s.L > 1024 || s.C < 16 || s.C % 16 || s.C > 1 << 16 || s.D < 32 || s.D % 32 || s.D > 1024 || s.F < 16 || s.F % 16 ||
        s.F > 1 << 18 || s.H < 1 || s.K < 1 || s.H % s.K || s.H > 1024 || s.V < 2 || s.V > 1 << 24 || s.T < 1 || s.T > 1 << 20)
        return PyErr_SetString(PyExc_ValueError, "a shape that the C core can't do: width and hidden in sixteens, head size in thirty-twos"), NULL;
    int set = set_named(name);
    if (set < 0) return NULL;
    if (!strcmp(name, "int16") && (s.C % 32 || s.F % 32)) return PyErr_SetString(PyExc_ValueError, "int16: expected width and hidden in thirty-twos"), NULL;
    Step *p = build(s, SETS + set, threads);
    if (!p) return PyErr_NoMemory();
    PyObject *capsule = PyCapsule_New(p, NAME, forget);
    if (!capsule) release(p);
    return capsule;
}

/* A view of exactly `bytes` bytes; false with an exception set where it isn't. */
static int view(PyObject *from, Py_buffer *to, long bytes, int write, const char *what) {
    if (PyObject_GetBuffer(from, to, PyBUF_C_CONTIGUOUS | (write ? PyBUF_WRITABLE : 0))) return 0;
    if (to->len == bytes) return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected %ld", what, to->len, bytes);
    PyBuffer_Release(to);
    return 0;
}

static PyObject *gradients(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *capsule, *matrices, *cos, *sin, *ids, *targets, *segments, *scales, *nats, *gradient;
    if (!PyArg_ParseTuple(args, "OO!OOOOOOOO", &capsule, &PyList_Type, &matrices, &cos, &sin, &ids, &targets, &segments, &scales, &nats, &gradient)) return NULL;
    Step *p = PyCapsule_GetPointer(capsule, NAME);
    if (!p) return NULL;
    if (p->busy) return PyErr_SetString(PyExc_RuntimeError, "this step is at work in another thread"), NULL;
    const Shape *s = &p->s;
    const long T = s->T, C = s->C, wide = (long)s->H * s->D, narrow = (long)s->K * s->D, F = s->F;
    const int count = 2 + 7 * s->L;
    if (PyList_GET_SIZE(matrices) != count) return PyErr_Format(PyExc_ValueError, "expected %d matrices", count);
    const long sizes[7] = {wide * C, narrow * C, narrow * C, C * wide, F * C, F * C, C * F};
    Py_buffer *views = PyMem_Calloc(count + 8, sizeof *views);
    const float **pointers = PyMem_Calloc(count, sizeof *pointers);
    int held = 0, good = views && pointers;
    if (!good) PyErr_NoMemory();
    for (int i = 0; good && i < count; i++) {
        long n = i < 2 ? (long)s->V * C : sizes[(i - 2) % 7];
        if ((good = view(PyList_GET_ITEM(matrices, i), &views[held], n * 4, 0, "a matrix"))) pointers[i] = views[held++].buf;
    }
    long rows = 0;
    if (good && (good = !PyObject_GetBuffer(ids, &views[held], PyBUF_C_CONTIGUOUS))) {
        rows = views[held].len / (8 * T);
        if (views[held++].len != rows * 8 * T || rows > 1 << 20) good = 0, PyErr_SetString(PyExc_ValueError, "ids: expected whole rows of int64");
    }
    PyObject *rest[] = {targets, segments, scales, nats, cos, sin, gradient};
    const char *names[] = {"targets", "segments", "scales", "nats", "cos", "sin", "gradient"};
    const long bytes[] = {rows * T * 8, rows * T * 4, rows * T * 4, rows * T * 4, T * s->D * 4, T * s->D * 4, p->numbers * 4};
    for (int i = 0; good && i < 7; i++)
        if ((good = view(rest[i], &views[held], bytes[i], i == 3 || i == 6, names[i]))) held++;
    if (good) {
        Py_buffer *v = views + count;
        Work work = {p, (int)rows, pointers, v[0].buf, v[1].buf, v[2].buf, v[3].buf, v[4].buf, v[7].buf};
        p->weights.embed = pointers[0], p->weights.cos = v[5].buf, p->weights.sin = v[6].buf;
        for (long i = 0; good && i < rows * T; i++) {
            if (work.ids[i] < 0 || work.ids[i] >= s->V || work.targets[i] < -1 || work.targets[i] >= s->V)
                good = 0, PyErr_Format(PyExc_ValueError, "an id or target outside 0 to %d (target: or -1)", s->V - 1);
            /* A document lies in one piece, or else what it sees would have holes. */
            else if (i % T && work.segments[i] != work.segments[i - 1] && work.segments[i] && (work.segments[i] < work.segments[i - 1] || !work.segments[i - 1]))
                good = 0, PyErr_SetString(PyExc_ValueError, "segments: expected rising numbers, then zeros");
        }
        if (good) {
            p->busy = 1;
            large_pages(work.gradient, p->numbers * 4);
            Py_BEGIN_ALLOW_THREADS
            everybody(&work, pack_some);
            everybody(&work, do_rows);
            everybody(&work, add_up);
            Py_END_ALLOW_THREADS
            p->busy = 0;
        }
    }
    while (held) PyBuffer_Release(&views[--held]);
    PyMem_Free(views), PyMem_Free(pointers);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

static PyObject *bytes(PyObject *self, PyObject *capsule) {
    (void)self;
    Step *p = PyCapsule_GetPointer(capsule, NAME);
    return p ? PyLong_FromSize_t(p->bytes) : NULL;
}

static PyMethodDef METHODS[] = {
    {"sets", sets, METH_NOARGS, "Names of the instruction sets that are usable here, the widest first."},
    {"step", step_new, METH_VARARGS, "Room for rows of a shape: set, threads, L, C, H, K, D, F, V, T, again, eps, gain."},
    {"bytes", bytes, METH_O, "How much memory that room takes."},
    {"gradients", gradients, METH_VARARGS, "Losses and gradients of a batch."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, METHODS, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&MODULE); }
