/* A decoding step in C: from the ids of new tokens to the scores of all that may follow, and to the next ones. The same as
 * Decoder.step in decoder.py and the functions of sampling.py, which are to be read first and to which the tests compare it.
 *
 * In PyTorch a step is about 130 operations, each of which costs more than its sums where the model is small; here they are
 * written out, and only reading the weights is left. This file is the border to Python: nothing goes on to the rest that was
 * not checked here. step.h is the step, kernels.h its sums, choosing.h what follows it, threads.h who does it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <unistd.h>

#include "step.h"
#include "choosing.h"

/* ---------------------------------------------------------------------------------------------- the border */

/* The buffer of an array of these sizes, contiguous; kind 'f' float32, 'e' float16, 'l' int64, 'L' uint64, '?' bool. What is none is a
 * ValueError. */
static int take(PyObject *array, Py_buffer *view, const char *what, char kind, int writable, int dimensions, const long *sizes) {
    static const char *names[] = {"float32", "uint64", "int64", "bool", "float16"};
    int which = kind == 'f' ? 0 : kind == 'L' ? 1 : kind == 'l' ? 2 : kind == '?' ? 3 : 4;
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

#define CACHED(m) ((m)->kernels->kept == 2 ? 'e' : 'f') /* the kind of keys and values */

static int take_matrix(const Model *m, const Kernels *kernels, PyObject *array, Matrix *to, const char *what, long out, long channels, int gated) {
    Py_buffer view;
    if (take(array, &view, what, 'f', 0, 2, (long[]){out, channels})) return -1;
    int failed = pack(to, kernels, view.buf, out, channels, gated, m->far);
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

/* Model(heads, kv_heads, head_size, width, hidden, vocab_size, context, eps, gain, table, cos, sin, head, layers, kind):
 * the weights, made ready once; layers is a tuple of (qkv, o, gate_up, down). kind: 'int16', 'avx512', 'avx2', 'plain', or
 * 'float32' for the best but int16, or '' for the best there is. table, cos and sin are kept, the others copied. */
static int model_init(PyObject *self, PyObject *arguments, PyObject *named) {
    Model *m = (Model *)self;
    PyObject *table, *cos, *sin, *head, *layers;
    const char *kind;
    if (named && PyDict_Size(named)) return PyErr_SetString(PyExc_TypeError, "Model takes no names"), -1;
    if (m->kernels) return PyErr_SetString(PyExc_ValueError, "a model is made once"), -1;
    if (!PyArg_ParseTuple(arguments, "lllllllffOOOOO!s", &m->H, &m->K, &m->D, &m->C, &m->F, &m->V, &m->context, &m->eps, &m->gain,
                          &table, &cos, &sin, &head, &PyTuple_Type, &layers, &kind))
        return -1;
    long sizes[] = {m->H, m->K, m->D, m->C, m->F, m->V, m->context};
    for (int i = 0; i < 7; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 24) return PyErr_SetString(PyExc_ValueError, "a size is not in 1 to 2^24"), -1;
    if (m->H % m->K || m->D % 2) return PyErr_SetString(PyExc_ValueError, "heads must share kv_heads evenly, head_size be even"), -1;
    const Kernels *kernels = kernels_named(kind);
    if (!kernels) return PyErr_Format(PyExc_ValueError, "this processor has no %s", kind), -1;
    long H = m->H, K = m->K, D = m->D, C = m->C, F = m->F, L = (long)PyTuple_GET_SIZE(layers);
#ifdef _SC_LEVEL2_CACHE_SIZE
    long near = sysconf(_SC_LEVEL2_CACHE_SIZE) / 2 / (DEEP * 64);
    m->errands = near < 0 ? 0 : near < MOST_ERRANDS ? near : MOST_ERRANDS;
#endif
    m->far = (double)(m->V * C + L * C * (2 * (H + K) * D + 3 * F)) * (kernels->rounded_row ? 2 : 4) > FAR;
    if (take(table, &m->table, "table", 'f', 0, 2, (long[]){m->V, C}) || take(cos, &m->cos, "cos", 'f', 0, 2, (long[]){m->context, D}) ||
        take(sin, &m->sin, "sin", 'f', 0, 2, (long[]){m->context, D}) || take_matrix(m, kernels, head, &m->head, "head", m->V, C, 0))
        return -1;
    m->layers = calloc((size_t)L + 1, sizeof(Layer));
    if (!m->layers) return PyErr_NoMemory(), -1;
    for (m->L = 0; m->L < L;) {
        PyObject *qkv, *o, *gate_up, *down, *four = PyTuple_GET_ITEM(layers, m->L);
        Layer *layer = &m->layers[m->L++]; /* counted first, so that what is there of it is freed */
        if (!PyTuple_Check(four)) return PyErr_SetString(PyExc_TypeError, "a layer is a tuple (qkv, o, gate_up, down)"), -1;
        if (!PyArg_ParseTuple(four, "OOOO", &qkv, &o, &gate_up, &down)) return -1;
        if (take_matrix(m, kernels, qkv, &layer->qkv, "qkv", (H + 2 * K) * D, C, 0) ||
            take_matrix(m, kernels, o, &layer->o, "o", C, H * D, 0) ||
            take_matrix(m, kernels, gate_up, &layer->gate_up, "gate_up", 2 * F, C, 1) ||
            take_matrix(m, kernels, down, &layer->down, "down", C, F, 0))
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
    long joined = (m->H + 2 * m->K) * m->D, longest = m->C > m->F ? m->C : m->F;
    longest = longest > m->H * m->D ? longest : m->H * m->D;
    long room = m->kernels->rounded_row ? ROOM(longest) : 0, own = AT_ONCE + SCORES(job->places) + TOGETHER * room;
    long floats = N * (2 * m->C + joined + m->H * m->D + m->F + 1 + room) + threads * own + more + 9 * 16;
    char *scratch = borrow(m, (size_t)floats * sizeof(float)), *left = scratch;
    if (!scratch) return NULL;
    job->x = carve(&left, N * m->C), job->joined = carve(&left, N * joined), job->mixed = carve(&left, N * m->H * m->D);
    job->hidden = carve(&left, N * m->F), job->wanted = carve(&left, N * m->C), job->own = carve(&left, threads * own);
    job->scale = carve(&left, N), job->rounded = carve(&left, N * room);
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
        take(given[4], &view[4], "k", CACHED(m), 1, 5, cache) || take(given[5], &view[5], "v", CACHED(m), 1, 5, cache) ||
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
        job.apart = apart(&job);
        work_together(&job.team, (int)threads, meetings(&job));
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
        if (take(given[i], &view[i], names[i], of == 5 ? CACHED(m) : types[i], of == 5 || i > 13, of, of == 5 ? cache : i == 5 ? masks : i > 13 ? out : one)) goto done;
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
    job.place = place, job.last = each, job.apart = apart(&job);
    Choice c = {.team.work = choose, .m = m, .B = B, .logits = job.logits, .scores = job.logits, .masks = view[5].buf, .kind = kind,
                .temperature = view[7].buf, .top_k = view[8].buf, .top_p = view[9].buf, .min_p = view[10].buf, .seed = view[11].buf,
                .position = position, .own = job.more, .own_size = own};
    long done = 0;
    Py_BEGIN_ALLOW_THREADS;
    for (int stopped = 0; done < n && !stopped; done++) {
        work_together(&job.team, (int)threads, meetings(&job));
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
    int failed = !model || PyModule_AddObjectRef(module, "Model", model) || PyModule_AddStringConstant(module, "best", kernels_named("")->name);
    Py_XDECREF(model);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, add_types}, {0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", "a decoding step", 0, NULL, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module); }
