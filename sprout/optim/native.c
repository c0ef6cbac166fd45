/* Muon's and AdamW's updates in C: each thread takes whole matrices, or a stretch of a tensor, and goes over memory once
 * where torch goes ten times. muon.py and adamw.py are what they are compared with. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct { float *x, *right, *s, *q, *p, *t; } Scratch;

#define BODY "update.h"
#include "sets.h"

typedef void (*Muon)(float *, const float *, float *, int, int, float, float, float, const float *, int, Scratch *);
typedef void (*AdamW)(float *, const float *, float *, float *, long, float, float, float, float, float, float, float);
typedef struct { Muon muon; AdamW adamw; } Set;
static const Set SETS[] = {
#if defined(__x86_64__)
    {muon_avx512, adamw_avx512},
    {muon_avx512, adamw_avx512},
    {muon_avx2, adamw_avx2},
#endif
    {muon_plain, adamw_plain},
};

typedef struct {
    const Set *set;
    float **matrices, *p, *m, *v; /* one by one: the model's own; m is one tensor for all */
    const float **gradients, *g;
    long n; /* matrices, or numbers */
    int rows, columns, steps, threads;
    float *room;
    float lr, beta1, beta2, eps, decay, correct1, correct2, quintic[3];
} Work;
typedef struct { Work *work; int i; } Job;

/* Numbers for a thread: a matrix, its panels, and four symmetric ones. */
static long room_for(const Work *k, Scratch *w, float *at) {
    const long size = (long)k->rows * k->columns, r = k->rows < k->columns ? k->rows : k->columns, c = size / r;
    const long high = c * UP(r, PANEL), wide = r * UP(c, PANEL), panels = high > wide ? high : wide, square = r * UP(r, PANEL);
    if (w) *w = (Scratch){at, at + size, at + size + panels, at + size + panels + square, at + size + panels + 2 * square, at + size + panels + 3 * square};
    return size + panels + 4 * square;
}

/* Room is kept from one call to the next: the system takes its time to make it anew. Only who holds the GIL may come here. */
static float *kept;
static long kept_numbers;

static float *borrow(long *numbers) {
    void *room = kept;
    if (kept_numbers >= *numbers) *numbers = kept_numbers, kept = NULL, kept_numbers = 0;
    else if (posix_memalign(&room, 64, *numbers * sizeof(float))) return NULL;
    return room;
}

static void give_back(float *room, long numbers) {
    if (kept_numbers >= numbers) free(room);
    else free(kept), kept = room, kept_numbers = numbers;
}

static void *some_matrices(void *given) {
    Work *k = ((Job *)given)->work;
    const long size = (long)k->rows * k->columns;
    Scratch w;
    room_for(k, &w, k->room + ((Job *)given)->i * room_for(k, NULL, NULL));
    for (long i = ((Job *)given)->i; i < k->n; i += k->threads)
        k->set->muon(k->matrices[i], k->gradients[i], k->m + i * size, k->rows, k->columns, k->lr, k->beta1, k->decay, k->quintic, k->steps, &w);
    return NULL;
}

static void *a_stretch(void *given) {
    Work *k = ((Job *)given)->work;
    long i = ((Job *)given)->i, from = k->n * i / k->threads, n = k->n * (i + 1) / k->threads - from;
    k->set->adamw(k->p + from, k->g + from, k->m + from, k->v + from, n, k->lr, k->beta1, k->beta2, k->eps, k->decay, k->correct1, k->correct2);
    return NULL;
}

static void everybody(Work *work, void *(*what)(void *)) {
    pthread_t ids[256];
    Job jobs[256];
    int begun[256];
    for (int i = 0; i < work->threads; i++) {
        jobs[i] = (Job){work, i};
        begun[i] = i && !pthread_create(&ids[i], NULL, what, &jobs[i]);
    }
    for (int i = 0; i < work->threads; i++)
        if (!begun[i]) what(&jobs[i]);
    for (int i = 0; i < work->threads; i++)
        if (begun[i]) pthread_join(ids[i], NULL);
}

/* All tensors of an update have one length, and those behind the gradient are written to. */
static int views(PyObject **from, Py_buffer *to, int count) {
    for (int i = 0; i < count; i++) {
        if (!PyObject_GetBuffer(from[i], &to[i], PyBUF_C_CONTIGUOUS | (i == 1 ? 0 : PyBUF_WRITABLE))) {
            if (to[i].len == to[0].len) continue;
            PyErr_Format(PyExc_ValueError, "tensors of %zd and %zd bytes; expected one size", to[0].len, to[i].len);
            PyBuffer_Release(&to[i]);
        }
        while (i--) PyBuffer_Release(&to[i]);
        return 0;
    }
    return 1;
}

static PyObject *muon(PyObject *self, PyObject *args) {
    (void)self;
    Work k = {0};
    const char *name;
    PyObject *matrices, *gradients, *momentum;
    if (!PyArg_ParseTuple(args, "siiiiO!O!Offf(fff)", &name, &k.threads, &k.rows, &k.columns, &k.steps, &PyList_Type, &matrices, &PyList_Type,
                          &gradients, &momentum, &k.lr, &k.beta1, &k.decay, &k.quintic[0], &k.quintic[1], &k.quintic[2])) return NULL;
    int set = set_named(name);
    if (set < 0) return NULL;
    k.set = SETS + set;
    if (k.threads < 1 || k.threads > 256 || k.steps < 1 || k.rows < 16 || k.columns < 16 || k.rows % 16 || k.columns % 16 || k.rows > 1 << 18 || k.columns > 1 << 18)
        return PyErr_SetString(PyExc_ValueError, "expected 1 to 256 threads, a step or more, rows and columns in sixteens"), NULL;
    k.n = PyList_GET_SIZE(matrices);
    if (PyList_GET_SIZE(gradients) != k.n) return PyErr_SetString(PyExc_ValueError, "expected a gradient for each matrix"), NULL;
    const long size = 4L * k.rows * k.columns;
    Py_buffer *views = PyMem_Calloc(2 * k.n + 1, sizeof *views);
    k.matrices = PyMem_Calloc(k.n + 1, sizeof *k.matrices), k.gradients = PyMem_Calloc(k.n + 1, sizeof *k.gradients);
    long held = 0, good = views && k.matrices && k.gradients;
    if (!good) PyErr_NoMemory();
    for (long i = 0; good && i < 2 * k.n + 1; i++) {
        PyObject *from = i < k.n ? PyList_GET_ITEM(matrices, i) : i < 2 * k.n ? PyList_GET_ITEM(gradients, i - k.n) : momentum;
        if (PyObject_GetBuffer(from, &views[i], PyBUF_C_CONTIGUOUS | (i < k.n || i == 2 * k.n ? PyBUF_WRITABLE : 0))) good = 0;
        else if (held++, views[i].len != (i < 2 * k.n ? size : size * k.n)) good = 0, PyErr_SetString(PyExc_ValueError, "expected whole matrices of float32");
        else if (i < k.n) k.matrices[i] = views[i].buf;
        else if (i < 2 * k.n) k.gradients[i - k.n] = views[i].buf;
        else k.m = views[i].buf;
    }
    long numbers = k.threads * room_for(&k, NULL, NULL);
    if (good && !(k.room = borrow(&numbers))) good = 0, PyErr_NoMemory();
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        everybody(&k, some_matrices);
        Py_END_ALLOW_THREADS
        give_back(k.room, numbers);
    }
    while (held) PyBuffer_Release(&views[--held]);
    PyMem_Free(views), PyMem_Free(k.matrices), PyMem_Free(k.gradients);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

static PyObject *adamw(PyObject *self, PyObject *args) {
    (void)self;
    Work k = {0};
    const char *name;
    PyObject *from[4];
    Py_buffer to[4];
    if (!PyArg_ParseTuple(args, "siOOOOfffffff", &name, &k.threads, &from[0], &from[1], &from[2], &from[3], &k.lr, &k.beta1, &k.beta2,
                          &k.eps, &k.decay, &k.correct1, &k.correct2)) return NULL;
    int set = set_named(name);
    if (set < 0) return NULL;
    k.set = SETS + set;
    if (k.threads < 1 || k.threads > 256) return PyErr_SetString(PyExc_ValueError, "threads: expected 1 to 256"), NULL;
    if (!views(from, to, 4)) return NULL;
    k.p = to[0].buf, k.g = to[1].buf, k.m = to[2].buf, k.v = to[3].buf, k.n = to[0].len / 4;
    Py_BEGIN_ALLOW_THREADS
    everybody(&k, a_stretch);
    Py_END_ALLOW_THREADS
    for (int i = 0; i < 4; i++) PyBuffer_Release(&to[i]);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"sets", sets, METH_NOARGS, "Names of the instruction sets that are usable here, the widest first."},
    {"muon", muon, METH_VARARGS, "set, threads, rows, columns, steps, p, g, momentum, lr, beta, decay, quintic"},
    {"adamw", adamw, METH_VARARGS, "set, threads, p, g, m, v, lr, beta1, beta2, eps, decay, 1 - beta1^step, 1 - beta2^step"},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, METHODS, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&MODULE); }
