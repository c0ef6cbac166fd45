#include "native.h"

static inline u64 hash_bytes(const u8 *p, size_t n) {
    u64 h = n * 0xD6E8FEB86659FD93ull, w;
    while (n >= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w);
        p += 8;
        n -= 8;
    }
    if (n) {
        w = 0;
        memcpy(&w, p, n);
        h = mix(h ^ w);
    }
    return h;
}

/* ------------------------------------------------------------------------------------------------ merging */

typedef struct { u64 pair; u32 rank, id; } Merge; /* pair: left << 32 | right; rank UINT32_MAX marks an empty place */

typedef struct { u64 hash; u32 word, length, ids, count; } Known; /* places in two arenas; count 0: empty */

#define LONGEST_KNOWN 64
#define MOST_KNOWN (1u << 17)

typedef struct { u32 rank, left, a, b, id; } Offer;

typedef struct {
    PyObject_HEAD
    u8 *table;
    Merge *merges;
    u64 merge_mask;
    u32 byte_ids[256];
    u32 tokens; /* specials are behind these */
    u8 *spelled;
    u64 *offsets; /* of the tokens in spelled, one more than there are */
    PyObject **numbers; /* the ids as Python's numbers */
    Known *known;
    u64 known_mask;
    u32 known_count;
    ARRAY(u8) words;
    ARRAY(u32) ids;
    ARRAY(u32) out;
    ARRAY(u32) scratch; /* a word's ids, and for long ones left and right neighbours */
    ARRAY(Offer) heap;
    PyThread_type_lock lock; /* one text at a time */
    int ready;
} Core;

static inline const Merge *find(const Core *core, u32 a, u32 b) {
    u64 pair = (u64)a << 32 | b, i = mix(pair) & core->merge_mask;
    while (core->merges[i].rank != UINT32_MAX) {
        if (core->merges[i].pair == pair) return &core->merges[i];
        i = (i + 1) & core->merge_mask;
    }
    return NULL;
}

/* All merges of a short word, the first learned first, the leftmost of several: ids in place, their number. */
static size_t merge_short(const Core *core, u32 *ids, size_t n) {
    const Merge *found[LONGEST_KNOWN];
    for (size_t i = 0; i + 1 < n; i++) found[i] = find(core, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = n;
        u32 rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (found[i] && found[i]->rank < rank) {
                rank = found[i]->rank;
                best = i;
            }
        if (best == n) break;
        ids[best] = found[best]->id;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        if (best + 2 < n) memmove(found + best + 1, found + best + 2, (n - best - 2) * sizeof *found);
        n--;
        if (best > 0) found[best - 1] = find(core, ids[best - 1], ids[best]);
        if (best + 1 < n) found[best] = find(core, ids[best], ids[best + 1]);
    }
    return n;
}

static int before(const Offer *x, const Offer *y) { return x->rank != y->rank ? x->rank < y->rank : x->left < y->left; }

static int offer(Core *core, u32 *ids, const u32 *right, u32 i, u32 n) {
    u32 j = right[i];
    const Merge *m = j < n ? find(core, ids[i], ids[j]) : NULL;
    if (!m) return 0;
    if (RESERVE(core->heap, 1)) return -1;
    Offer new = {m->rank, i, ids[i], ids[j], m->id};
    size_t at = core->heap.n++;
    for (size_t up; at && before(&new, &core->heap.at[up = (at - 1) / 2]); at = up) core->heap.at[at] = core->heap.at[up];
    core->heap.at[at] = new;
    return 0;
}

static Offer take(Core *core) {
    Offer *heap = core->heap.at, top = heap[0], last = heap[--core->heap.n];
    size_t at = 0, n = core->heap.n;
    for (size_t down; (down = 2 * at + 1) < n; at = down) {
        if (down + 1 < n && before(&heap[down + 1], &heap[down])) down++;
        if (!before(&heap[down], &last)) break;
        heap[at] = heap[down];
    }
    heap[at] = last;
    return top;
}

/* The same for a word of any length, with a heap over a linked list: n log n. The ids go to core->out. */
static int merge_long(Core *core, const u8 *word, size_t length) {
    u32 n = (u32)length;
    core->scratch.n = 0;
    if (RESERVE(core->scratch, 3 * length)) return -1;
    u32 *ids = core->scratch.at, *left = ids + n, *right = left + n;
    for (u32 i = 0; i < n; i++) {
        ids[i] = core->byte_ids[word[i]];
        left[i] = i - 1;
        right[i] = i + 1;
    }
    core->heap.n = 0;
    for (u32 i = 0; i < n; i++)
        if (offer(core, ids, right, i, n)) return -1;
    while (core->heap.n) {
        Offer m = take(core);
        u32 i = m.left, j = right[i];
        if (ids[i] != m.a || j >= n || ids[j] != m.b) continue; /* one of the two was merged otherwise since */
        ids[i] = m.id;
        ids[j] = UINT32_MAX;
        right[i] = right[j];
        if (right[j] < n) left[right[j]] = i;
        if (i > 0 && left[i] != UINT32_MAX && offer(core, ids, right, left[i], n)) return -1;
        if (offer(core, ids, right, i, n)) return -1;
    }
    if (RESERVE(core->out, length)) return -1;
    for (u32 i = 0; i < n; i = right[i]) core->out.at[core->out.n++] = ids[i];
    return 0;
}

static void forget(Core *core) {
    memset(core->known, 0, (core->known_mask + 1) * sizeof *core->known);
    core->known_count = 0;
    core->words.n = core->ids.n = 0;
}

/* The ids of a word, added to core->out. */
static inline int encode_word(Core *core, const u8 *word, size_t length) {
    if (length > LONGEST_KNOWN) return merge_long(core, word, length);
    if (RESERVE(core->out, LONGEST_KNOWN)) return -1;
    u32 *out = core->out.at + core->out.n;
    if (length == 1) {
        *out = core->byte_ids[*word];
        core->out.n++;
        return 0;
    }
    u64 hash = hash_bytes(word, length), i = hash & core->known_mask;
    for (Known *k; (k = &core->known[i])->count; i = (i + 1) & core->known_mask) {
        if (k->hash == hash && k->length == length && !memcmp(core->words.at + k->word, word, length)) {
            const u32 *ids = core->ids.at + k->ids;
            for (u32 x = 0; x < k->count; x++) out[x] = ids[x];
            core->out.n += k->count;
            return 0;
        }
    }
    for (size_t b = 0; b < length; b++) out[b] = core->byte_ids[word[b]];
    size_t n = merge_short(core, out, length);
    core->out.n += n;
    if (core->known_count >= MOST_KNOWN) {
        forget(core);
        i = hash & core->known_mask;
    }
    if (RESERVE(core->words, length) || RESERVE(core->ids, n)) return -1;
    Known new = {hash, (u32)core->words.n, (u32)length, (u32)core->ids.n, (u32)n};
    memcpy(core->words.at + core->words.n, word, length);
    memcpy(core->ids.at + core->ids.n, out, n * sizeof *out);
    core->words.n += length;
    core->ids.n += n;
    core->known[i] = new;
    core->known_count++;
    return 0;
}

static int encode(Core *core, const u8 *p, const u8 *end) {
    core->out.n = 0;
    while (p < end) {
        const u8 *q = word_end(core->table, p, end);
        if (encode_word(core, p, (size_t)(q - p))) return -1;
        p = q;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ Core for Python */

static void core_dealloc(PyObject *self) {
    Core *core = (Core *)self;
    if (core->numbers)
        for (u32 i = 0; i < core->tokens; i++) Py_XDECREF(core->numbers[i]);
    if (core->lock) PyThread_free_lock(core->lock);
    void *owned[] = {core->table, core->merges, core->spelled, core->offsets, core->numbers, core->known,
                     core->words.at, core->ids.at, core->out.at, core->scratch.at, core->heap.at};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Core(table, tokens, merges): a class for every code point (0x110000 bytes); what every id spells (list of bytes); left,
 * right and new id of every merge in order (bytes of uint32). */
static int core_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    Core *core = (Core *)self;
    Py_buffer table, merges;
    PyObject *tokens;
    static char *names[] = {"table", "tokens", "merges", NULL};
    if (core->table || !PyArg_ParseTupleAndKeywords(args, kwargs, "y*O!y*", names, &table, &PyList_Type, &tokens, &merges)) {
        if (core->table) PyErr_SetString(PyExc_RuntimeError, "a core is made once");
        return -1;
    }
    size_t count = (size_t)merges.len / (3 * sizeof(u32)), places = 64, total = 0;
    while (places < 2 * count + 2) places *= 2;
    core->tokens = (u32)PyList_GET_SIZE(tokens);
    int good = table.len == 0x110000 && core->tokens >= 256;
    for (u32 i = 0; good && i < core->tokens; i++) {
        good = PyBytes_Check(PyList_GET_ITEM(tokens, i));
        if (good) total += (size_t)PyBytes_GET_SIZE(PyList_GET_ITEM(tokens, i));
    }
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "expected 0x110000 classes and a list of at least 256 tokens as bytes");
        goto done;
    }
    core->table = malloc(0x110000);
    core->merges = malloc(places * sizeof(Merge));
    core->spelled = malloc(total + 1);
    core->offsets = malloc((core->tokens + 1) * sizeof(u64));
    core->numbers = calloc(core->tokens, sizeof(PyObject *));
    core->known_mask = 2 * MOST_KNOWN - 1;
    core->known = calloc(core->known_mask + 1, sizeof(Known));
    core->lock = PyThread_allocate_lock();
    if (!core->lock || !core->table || !core->merges || !core->spelled || !core->offsets || !core->numbers || !core->known) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(core->table, table.buf, 0x110000);
    core->merge_mask = places - 1;
    memset(core->merges, 0xFF, places * sizeof(Merge));
    for (size_t i = 0; i < count; i++) {
        u32 three[3];
        memcpy(three, (const u8 *)merges.buf + i * sizeof three, sizeof three);
        if (three[0] >= core->tokens || three[1] >= core->tokens || three[2] >= core->tokens) {
            PyErr_SetString(PyExc_ValueError, "a merge names an id that is not there");
            goto done;
        }
        u64 pair = (u64)three[0] << 32 | three[1], at = mix(pair) & core->merge_mask;
        while (core->merges[at].rank != UINT32_MAX && core->merges[at].pair != pair) at = (at + 1) & core->merge_mask;
        core->merges[at] = (Merge){pair, (u32)i, three[2]};
    }
    u64 at = 0;
    memset(core->byte_ids, 0, sizeof core->byte_ids);
    for (u32 i = 0; i < core->tokens; i++) {
        PyObject *token = PyList_GET_ITEM(tokens, i);
        size_t n = (size_t)PyBytes_GET_SIZE(token);
        memcpy(core->spelled + at, PyBytes_AS_STRING(token), n);
        core->offsets[i] = at;
        if (n == 1) core->byte_ids[core->spelled[at]] = i;
        at += n;
        if (!(core->numbers[i] = PyLong_FromUnsignedLong(i))) goto done;
    }
    core->offsets[core->tokens] = at;
    core->ready = 1;
done:
    PyBuffer_Release(&table);
    PyBuffer_Release(&merges);
    return PyErr_Occurred() ? -1 : 0;
}

/* The text as UTF-8; NULL with an error set where it is none. */
static const u8 *utf8(PyObject *text, Py_ssize_t *n) { return (const u8 *)PyUnicode_AsUTF8AndSize(text, n); }

/* Encode into core->out, as a Python object of either form. Long texts let other threads run meanwhile. */
static PyObject *encode_text(Core *core, PyObject *text, int as_list) {
    Py_ssize_t n;
    if (!core->ready) {
        PyErr_SetString(PyExc_RuntimeError, "the core was never made");
        return NULL;
    }
    const u8 *p = PyUnicode_Check(text) ? utf8(text, &n) : NULL;
    if (!p || n >= UINT32_MAX) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "expected a str of less than 4 GB");
        return NULL;
    }
    if (!PyThread_acquire_lock(core->lock, NOWAIT_LOCK)) {
        Py_BEGIN_ALLOW_THREADS PyThread_acquire_lock(core->lock, WAIT_LOCK);
        Py_END_ALLOW_THREADS
    }
    int failed;
    if (n < 4096) {
        failed = encode(core, p, p + n);
    } else {
        Py_BEGIN_ALLOW_THREADS failed = encode(core, p, p + n);
        Py_END_ALLOW_THREADS
    }
    PyObject *out = NULL;
    if (failed) {
        PyErr_NoMemory();
    } else if (as_list) {
        out = PyList_New((Py_ssize_t)core->out.n);
        for (size_t i = 0; out && i < core->out.n; i++) {
            PyObject *number = core->numbers[core->out.at[i]];
            Py_INCREF(number);
            PyList_SET_ITEM(out, (Py_ssize_t)i, number);
        }
    } else {
        out = PyBytes_FromStringAndSize((const char *)core->out.at, (Py_ssize_t)(core->out.n * sizeof(u32)));
    }
    PyThread_release_lock(core->lock);
    return out;
}

static PyObject *core_encode(PyObject *self, PyObject *text) { return encode_text((Core *)self, text, 1); }

static PyObject *core_encode_bytes(PyObject *self, PyObject *text) { return encode_text((Core *)self, text, 0); }

/* decode(ids): what ids (a buffer of uint32) spell; an id that isn't there is an error. */
static PyObject *core_decode(PyObject *self, PyObject *ids) {
    Core *core = (Core *)self;
    Py_buffer buffer;
    if (!core->ready) {
        PyErr_SetString(PyExc_RuntimeError, "the core was never made");
        return NULL;
    }
    if (PyObject_GetBuffer(ids, &buffer, PyBUF_SIMPLE)) return NULL;
    const u32 *at = buffer.buf;
    size_t n = (size_t)buffer.len / sizeof(u32), total = 0;
    PyObject *text = NULL;
    for (size_t i = 0; i < n; i++) {
        if (at[i] >= core->tokens) {
            PyErr_Format(PyExc_IndexError, "there is no token %u", at[i]);
            goto done;
        }
        total += core->offsets[at[i] + 1] - core->offsets[at[i]];
    }
    text = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (!text) goto done;
    char *to = PyBytes_AS_STRING(text);
    for (size_t i = 0; i < n; i++) {
        u64 start = core->offsets[at[i]], length = core->offsets[at[i] + 1] - start;
        if (length <= 16 && start + 16 <= core->offsets[core->tokens] && (size_t)(to - PyBytes_AS_STRING(text)) + 16 <= total)
            memcpy(to, core->spelled + start, 16); /* two moves; what is too much is overwritten by the next */
        else
            memcpy(to, core->spelled + start, length);
        to += length;
    }
done:
    PyBuffer_Release(&buffer);
    return text;
}

static PyMethodDef core_methods[] = {
    {"encode", core_encode, METH_O, "ids of a text, as a list"},
    {"encode_bytes", core_encode_bytes, METH_O, "ids of a text, as the bytes of uint32"},
    {"decode", core_decode, METH_O, "the bytes that ids, a buffer of uint32, spell"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_init, core_init}, {Py_tp_dealloc, core_dealloc}, {Py_tp_methods, core_methods}, {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

static PyType_Spec core_spec = {"sprout.tokenizer._native.Core", sizeof(Core), 0, Py_TPFLAGS_DEFAULT, core_slots};

/* ------------------------------------------------------------------------------------------------ the module */

static int add_types(PyObject *module) {
    PyObject *core = PyType_FromSpec(&core_spec), *trainer = PyType_FromSpec(&trainer_spec);
    int failed = !core || !trainer || PyModule_AddObjectRef(module, "Core", core) || PyModule_AddObjectRef(module, "Trainer", trainer);
    Py_XDECREF(core);
    Py_XDECREF(trainer);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, add_types}, {0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", "the tokenizer's inner loops", 0, NULL, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module); }
