/* Muon's and AdamW's updates in C: each thread takes whole matrices, or a stretch of a tensor, and goes over memory once
 * where torch goes ten times. muon.py and adamw.py are what they are compared with. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct { float *x, *s, *t, *left, *right; } Scratch;

#define BODY "update.h"
#include "sets.h"

typedef void (*Muon)(float *, const float *, float *, int, int, float, float, float, const float *, int, Scratch *);
typedef void (*AdamW)(float *, const float *, float *, float *, long, float, float, float, float, float, float, float);
typedef struct { const char *name; Muon muon; AdamW adamw; } Set;
static const Set SETS[] = {
#if defined(__x86_64__)
    {"bf16", muon_bf16, adamw_bf16},
    {"avx512", muon_avx512, adamw_avx512},
    {"avx2", muon_avx2, adamw_avx2},
#endif
    {"plain", muon_plain, adamw_plain},
};
#define SET_COUNT (int)(sizeof SETS / sizeof *SETS)

static const Set *find(const char *name) {
    for (int i = 0; i < SET_COUNT; i++)
        if (!strcmp(SETS[i].name, name) && usable(i)) return SETS + i;
    return PyErr_Format(PyExc_ValueError, "no instruction set %s here", name), NULL;
}

typedef struct {
    const Set *set;
    float *p, *m, *v;
    const float *g;
    long n; /* matrices, or numbers */
    int rows, columns, steps, threads, failed;
    float lr, beta1, beta2, eps, decay, correct1, correct2, quintic[3];
} Work;
typedef struct { Work *work; int i; } Job;

static void *some_matrices(void *given) {
    Work *k = ((Job *)given)->work;
    const long size = (long)k->rows * k->columns, room = (size > 4096 ? size : 4096) + 64 * (k->rows + k->columns) + 256;
    const int r = k->rows < k->columns ? k->rows : k->columns;
    float *all = malloc((5 * room + (long)r * r) * sizeof(float));
    if (!all) return k->failed = 1, NULL;
    Scratch w = {all, all + room, all + 2 * room, all + 3 * room, all + 4 * room};
    for (long i = ((Job *)given)->i; i < k->n; i += k->threads)
        k->set->muon(k->p + i * size, k->g + i * size, k->m + i * size, k->rows, k->columns, k->lr, k->beta1, k->decay, k->quintic, k->steps, &w);
    free(all);
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
    PyObject *from[3];
    Py_buffer to[3];
    if (!PyArg_ParseTuple(args, "siiiiOOOfff(fff)", &name, &k.threads, &k.rows, &k.columns, &k.steps, &from[0], &from[1], &from[2],
                          &k.lr, &k.beta1, &k.decay, &k.quintic[0], &k.quintic[1], &k.quintic[2])) return NULL;
    if (!(k.set = find(name))) return NULL;
    if (k.threads < 1 || k.threads > 256 || k.rows < 16 || k.columns < 16 || k.rows % 16 || k.columns % 16 || k.rows > 1 << 18 || k.columns > 1 << 18)
        return PyErr_SetString(PyExc_ValueError, "expected 1 to 256 threads, rows and columns in sixteens"), NULL;
    if (!views(from, to, 3)) return NULL;
    long size = 4L * k.rows * k.columns;
    if (to[0].len % size) PyErr_SetString(PyExc_ValueError, "expected whole matrices of float32");
    else {
        k.p = to[0].buf, k.g = to[1].buf, k.m = to[2].buf, k.n = to[0].len / size;
        Py_BEGIN_ALLOW_THREADS
        everybody(&k, some_matrices);
        Py_END_ALLOW_THREADS
        if (k.failed) PyErr_NoMemory();
    }
    for (int i = 0; i < 3; i++) PyBuffer_Release(&to[i]);
    if (PyErr_Occurred()) return NULL;
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
    if (!(k.set = find(name))) return NULL;
    if (k.threads < 1 || k.threads > 256) return PyErr_SetString(PyExc_ValueError, "threads: expected 1 to 256"), NULL;
    if (!views(from, to, 4)) return NULL;
    k.p = to[0].buf, k.g = to[1].buf, k.m = to[2].buf, k.v = to[3].buf, k.n = to[0].len / 4;
    Py_BEGIN_ALLOW_THREADS
    everybody(&k, a_stretch);
    Py_END_ALLOW_THREADS
    for (int i = 0; i < 4; i++) PyBuffer_Release(&to[i]);
    Py_RETURN_NONE;
}

static PyObject *sets(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < SET_COUNT; i++)
        if (usable(i)) {
            PyObject *name = PyUnicode_FromString(SETS[i].name);
            if (!name || PyList_Append(list, name)) Py_CLEAR(list);
            Py_XDECREF(name);
        }
    return list;
}

static PyMethodDef METHODS[] = {
    {"sets", sets, METH_NOARGS, "Names of the instruction sets that are usable here, the widest first."},
    {"muon", muon, METH_VARARGS, "set, threads, rows, columns, steps, p, g, momentum, lr, beta, decay, quintic"},
    {"adamw", adamw, METH_VARARGS, "set, threads, p, g, m, v, lr, beta1, beta2, eps, decay, 1 - beta1^step, 1 - beta2^step"},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, METHODS, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&MODULE); }
