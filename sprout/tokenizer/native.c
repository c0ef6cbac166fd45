/* Encoding and decoding in C, and the module. The same as tokenizer.py and bpe.py, which are to be read first and to which the
 * tests compare it, id for id. words.h cuts a text into words, merging.h merges one, learn.c learns merges.
 *
 * What makes it fast: the pattern is a scanner instead of a regular expression, and cuts plain text by the bits of 64 bytes at
 * once; a word that was seen before is looked up whole, and so is one that is a token; words are found some at a time and
 * looked up afterwards, when their places have come from memory; the ranks of byte pairs are a plain table; no Python object
 * is made for a word. Texts come as UTF-8; a text that is none (lone surrogates) is the caller's. */

#include "native.h"
#include "merging.h"

/* ------------------------------------------------------------------------------------------------ encoding */

static inline Known *set_of(const State *state, u64 hash) { return &state->known[2 * (hash & (SETS - 1))]; }

/* Where the ids of a remembered word are in rest, behind the bytes of a long one. */
static inline u32 *ids_in(const State *state, const Known *known) {
    u64 length = known->key.hi >> 56 > INLINE_WORD ? (u32)known->key.hi : 0;
    return state->rest.at + known->ids[0] + (length + 3) / 4;
}

/* Remember what a word of up to 62 bytes becomes, in place of its set's older one. */
static int remember(State *state, Key key, u64 hash, const u8 *word, size_t n, const u32 *ids, u32 count) {
    Known new = {key, count, {0, 0, 0}};
    if (count > 3 || n > INLINE_WORD) {
        new.count |= IN_REST;
        if (state->rest.n > MOST_REST) {
            memset(state->known, 0, 2 * SETS * sizeof(Known));
            state->rest.n = 0;
        }
        new.ids[0] = (u32)state->rest.n;
        if (RESERVE(state->rest, (n + 3) / 4 + count)) return -1;
        u32 *to = ids_in(state, &new);
        if (n > INLINE_WORD) memcpy(state->rest.at + new.ids[0], word, n);
        memcpy(to, ids, count * sizeof *to);
        state->rest.n = (size_t)(to - state->rest.at) + count;
    } else {
        memcpy(new.ids, ids, count * sizeof *ids);
    }
    Known *set = set_of(state, hash);
    set[1] = set[0];
    set[0] = new;
    return 0;
}

static void free_state(State *state) {
    void *owned[] = {state->owned, state->rest.at, state->out.at, state->scratch.at, state->heap.at, state};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

/* A new state. It remembers the tokens that a word of the same bytes becomes, as far as there is room; most common words
 * are such tokens. */
static State *new_state(const Core *core) {
    State *state = calloc(1, sizeof(State));
    if (!state) return NULL;
    if (!(state->owned = calloc(2 * SETS + 2, sizeof(Known)))) {
        free_state(state);
        return NULL;
    }
    state->known = (Known *)(((uintptr_t)state->owned + 63) & ~(uintptr_t)63);
    const u8 *end = core->spelled + core->offsets[core->tokens];
    for (u32 i = core->whole_n; i-- > 0;) { /* the first learned last, so that they stay */
        u32 id = core->whole[i];
        const u8 *token = core->spelled + core->offsets[id];
        size_t n = core->offsets[id + 1] - core->offsets[id];
        Key key = key_of(token, n, end);
        remember(state, key, key_hash(key), token, n, &id, 1);
    }
    return state;
}

static inline int is_at(const Known *known, Key key) { return known->key.lo == key.lo && known->key.hi == key.hi; }

typedef struct { const u8 *at; Key key; u64 hash; } Piece;

static inline size_t length_of(Key key) { return key.hi >> 56 > INLINE_WORD ? (u32)key.hi : key.hi >> 56; }

#define MOST_IDS ((BATCH + WINDOW) * (LONGEST_KNOWN + 2)) /* of a batch, without its longest words */

/* The ids of a word that is not in the first place of its set, or too long or of too many ids for an entry; added to
 * state->out, where there is room, also afterwards. */
static int look_closer(const Core *core, State *state, const Piece *piece) {
    size_t n = length_of(piece->key);
    if (n > LONGEST_KNOWN) return merge_long(core, state, piece->at, n) || RESERVE(state->out, MOST_IDS) ? -1 : 0;
    u32 *out = state->out.at + state->out.n, count;
    Known *known = set_of(state, piece->hash);
    if (is_at(known + 1, piece->key)) { /* the one asked for last is the newer one */
        Known other = known[0];
        known[0] = known[1];
        known[1] = other;
    }
    if (!is_at(known, piece->key) || (n > INLINE_WORD && memcmp(state->rest.at + known->ids[0], piece->at, n))) {
        count = n <= INLINE_WORD ? merge_within(core, (const u8 *)&piece->key, n, out, 16) : merge_short(core, piece->at, n, out);
        if (remember(state, piece->key, piece->hash, piece->at, n, out, count)) return -1;
    } else if (known->count & IN_REST) {
        count = known->count & ~IN_REST;
        memcpy(out, ids_in(state, known), count * sizeof *out);
    } else {
        count = known->count;
        memcpy(out, known->ids, sizeof known->ids);
    }
    state->out.n += count;
    return 0;
}

static int encode(const Core *core, State *state, const u8 *p, const u8 *end) {
    const u8 *ends[BATCH + WINDOW];
    Piece pieces[BATCH + WINDOW];
    while (p < end) {
        int n = cut(core->table, p, end, ends);
        for (int i = 0; i < n; p = ends[i++]) {
            Key key = key_of(p, (size_t)(ends[i] - p), end);
            pieces[i] = (Piece){p, key, key_hash(key)};
            PREFETCH(set_of(state, pieces[i].hash));
        }
        if (RESERVE(state->out, MOST_IDS)) return -1;
        u32 *out = state->out.at + state->out.n;
        for (int i = 0; i < n; i++) {
            const Known *known = set_of(state, pieces[i].hash);
            if (is_at(known, pieces[i].key) && known->count <= 3) {
                memcpy(out, known->ids, sizeof known->ids); /* the next one overwrites */
                out += known->count;
                continue;
            }
            state->out.n = (size_t)(out - state->out.at);
            if (look_closer(core, state, &pieces[i])) return -1;
            out = state->out.at + state->out.n;
        }
        state->out.n = (size_t)(out - state->out.at);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ Core for Python */

static void core_dealloc(PyObject *self) {
    Core *core = (Core *)self;
    if (core->numbers)
        for (u32 i = 0; i < core->tokens; i++) Py_XDECREF(core->numbers[i]);
    for (State *state = core->states, *next; state; state = next) {
        next = state->next;
        free_state(state);
    }
    void *owned[] = {core->table, core->merges, core->sieve, core->byte_ranks, core->new_ids,
                     core->whole, core->spelled, core->offsets, core->numbers};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The tables of merges; -1 and an error where they can't be. `merges` are `count` times left, right and new id. */
static int core_merges(Core *core, const u8 *merges, size_t count) {
    u64 places = 64;
    while (places < 2 * count + 2) places *= 2;
    core->merge_mask = places - 1;
    core->sieve_mask = 8 * places - 1;
    core->merges = malloc((places + 1) * sizeof(u64));
    core->sieve = calloc(8 * places / 64, sizeof(u64));
    core->byte_ranks = malloc(65536 * sizeof(int32_t));
    core->new_ids = malloc((count + 1) * sizeof(u32));
    if (!core->merges || !core->sieve || !core->byte_ranks || !core->new_ids) {
        PyErr_NoMemory();
        return -1;
    }
    memset(core->merges, 0xFF, (places + 1) * sizeof(u64));
    for (size_t rank = 0; rank < count; rank++) {
        u32 three[3];
        memcpy(three, merges + rank * sizeof three, sizeof three);
        if (three[0] >= core->tokens || three[1] >= core->tokens || three[2] >= core->tokens) {
            PyErr_SetString(PyExc_ValueError, "a merge names an id that is not there");
            return -1;
        }
        core->new_ids[rank] = three[2];
        u64 pair = pair_of(three[0], three[1]), at = merge_place(core, pair), bit = sieve_bit(core, pair);
        while (core->merges[at] != ~0ull && core->merges[at] >> RANK_BITS != pair) at = (at + 1) & (places - 1);
        core->merges[at] = pair << RANK_BITS | rank;
        core->sieve[bit >> 6] |= 1ull << (bit & 63);
    }
    size_t plain = 0;
    while (plain < count && core->new_ids[plain] == plain + 256) plain++;
    if (plain == count) {
        free(core->new_ids);
        core->new_ids = NULL;
    }
    for (u32 a = 0; a < 256; a++)
        for (u32 b = 0; b < 256; b++) core->byte_ranks[a << 8 | b] = rank_of(core, core->byte_ids[a], core->byte_ids[b]);
    return 0;
}

/* The tokens that a word of the same bytes becomes. There may be others, which no text gives. */
static int core_whole(Core *core) {
    core->whole = malloc((core->tokens + 1) * sizeof(u32));
    if (!core->whole) {
        PyErr_NoMemory();
        return -1;
    }
    for (u32 id = 0; id < core->tokens; id++) {
        size_t n = core->offsets[id + 1] - core->offsets[id];
        u32 ids[LONGEST_KNOWN + 2];
        if (n && n <= INLINE_WORD && merge_short(core, core->spelled + core->offsets[id], n, ids) == 1 && ids[0] == id)
            core->whole[core->whole_n++] = id;
    }
    return 0;
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
    size_t count = (size_t)merges.len / (3 * sizeof(u32)), total = 0, n = (size_t)PyList_GET_SIZE(tokens);
    int good = table.len == CLASSES && n >= 256 && n < NOBODY && count < NO_RANK;
    core->tokens = good ? (u32)n : 0;
    for (u32 i = 0; i < core->tokens; i++) {
        good = good && PyBytes_Check(PyList_GET_ITEM(tokens, i));
        if (good) total += (size_t)PyBytes_GET_SIZE(PyList_GET_ITEM(tokens, i));
    }
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "expected 0x110000 classes, and 256 to 2^21 tokens as a list of bytes, less than 2^22 merges");
        goto done;
    }
    core->table = malloc(CLASSES);
    core->spelled = malloc(total + 1);
    core->offsets = malloc((core->tokens + 1) * sizeof(u64));
    core->numbers = calloc(core->tokens, sizeof(PyObject *));
    if (!core->table || !core->spelled || !core->offsets || !core->numbers) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(core->table, table.buf, CLASSES);
    u64 at = 0;
    memset(core->byte_ids, 0, sizeof core->byte_ids);
    for (u32 i = 0; i < core->tokens; i++) {
        PyObject *token = PyList_GET_ITEM(tokens, i);
        size_t length = (size_t)PyBytes_GET_SIZE(token);
        memcpy(core->spelled + at, PyBytes_AS_STRING(token), length);
        core->offsets[i] = at;
        if (length == 1) core->byte_ids[core->spelled[at]] = i;
        at += length;
        if (!(core->numbers[i] = PyLong_FromUnsignedLong(i))) goto done;
    }
    core->offsets[core->tokens] = at;
    if (core_merges(core, merges.buf, count) || core_whole(core)) goto done;
    if (!(core->states = new_state(core))) PyErr_NoMemory();
    else core->ready = 1;
done:
    PyBuffer_Release(&table);
    PyBuffer_Release(&merges);
    return PyErr_Occurred() ? -1 : 0;
}

static int is_ready(const Core *core) {
    if (!core->ready) PyErr_SetString(PyExc_RuntimeError, "the core was never made");
    return core->ready;
}

/* A state that nobody else uses until it is given back: one at rest, or a new one. */
static State *borrow(Core *core) {
    State *state = core->states;
    if (state) core->states = state->next;
    else if (!(state = new_state(core))) PyErr_NoMemory();
    return state;
}

static void give_back(Core *core, State *state) {
    state->next = core->states;
    core->states = state;
}

/* encode(text): ids as a list. Long texts let other threads run meanwhile, here and below. */
static PyObject *core_encode(PyObject *self, PyObject *given) {
    Core *core = (Core *)self;
    Py_ssize_t n = 0;
    if (!is_ready(core)) return NULL;
    if (!PyUnicode_Check(given)) return PyErr_Format(PyExc_TypeError, "expected a str");
    const u8 *p = (const u8 *)PyUnicode_AsUTF8AndSize(given, &n);
    if (p && (u64)n >= UINT32_MAX) return PyErr_Format(PyExc_ValueError, "expected a str of less than 4 GB");
    State *state = p ? borrow(core) : NULL;
    if (!state) return NULL;
    int failed;
    state->out.n = 0;
    if (n < 4096) {
        failed = encode(core, state, p, p + n);
    } else {
        Py_BEGIN_ALLOW_THREADS
        failed = encode(core, state, p, p + n);
        Py_END_ALLOW_THREADS
    }
    PyObject *out = failed ? PyErr_NoMemory() : PyList_New((Py_ssize_t)state->out.n);
    for (size_t i = 0; out && i < state->out.n; i++) {
        PyObject *number = core->numbers[state->out.at[i]];
        Py_INCREF(number);
        PyList_SET_ITEM(out, (Py_ssize_t)i, number);
    }
    give_back(core, state);
    return out;
}

/* encode_bytes(texts): the ids of a text, or of the texts of a list one after the other, as the bytes of uint32; and, as the
 * bytes of uint64, where each ends. */
static PyObject *core_encode_bytes(PyObject *self, PyObject *given) {
    Core *core = (Core *)self;
    Text *texts;
    Py_ssize_t count;
    if (!is_ready(core)) return NULL;
    PyObject *held = texts_of(given, &texts, &count);
    if (!held) return NULL;
    PyObject *ends = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(u64)), *ids = NULL, *out = NULL;
    State *state = ends ? borrow(core) : NULL;
    if (state) {
        int failed = 0;
        u8 *end = (u8 *)PyBytes_AS_STRING(ends);
        state->out.n = 0;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count && !failed; i++) {
            failed = encode(core, state, texts[i].at, texts[i].at + texts[i].n);
            u64 n = state->out.n;
            memcpy(end + (size_t)i * sizeof n, &n, sizeof n);
        }
        Py_END_ALLOW_THREADS
        ids = failed ? PyErr_NoMemory() : PyBytes_FromStringAndSize((const char *)state->out.at, (Py_ssize_t)(state->out.n * sizeof(u32)));
        give_back(core, state);
    }
    if (ids) out = PyTuple_Pack(2, ids, ends);
    Py_XDECREF(ids);
    Py_XDECREF(ends);
    free(texts);
    Py_DECREF(held);
    return out;
}

/* The bytes that ids (a buffer of uint32, or a list of int) spell, in memory of the caller's; NULL with an error set: an
 * IndexError for an id that isn't there. */
static char *spell(Core *core, PyObject *ids, size_t *size) {
    Py_buffer buffer = {0};
    u32 *copied = NULL;
    const u32 *at;
    size_t n, total = 0;
    char *text = NULL;
    if (!is_ready(core)) return NULL;
    if (PyList_Check(ids)) {
        n = (size_t)PyList_GET_SIZE(ids);
        at = copied = malloc((n + 1) * sizeof(u32));
        for (size_t i = 0; copied && i < n; i++) {
            unsigned long id = PyLong_Check(PyList_GET_ITEM(ids, i)) ? PyLong_AsUnsignedLong(PyList_GET_ITEM(ids, i)) : ~0ul;
            copied[i] = id < core->tokens ? (u32)id : UINT32_MAX;
        }
        PyErr_Clear(); /* of a negative number: it is no token */
    } else {
        if (PyObject_GetBuffer(ids, &buffer, PyBUF_SIMPLE)) return NULL;
        at = buffer.buf;
        n = (size_t)buffer.len / sizeof(u32);
    }
    for (size_t i = 0; at && i < n; i++) {
        if (at[i] >= core->tokens) {
            PyErr_Format(PyExc_IndexError, "there is no token %u", at[i]);
            goto done;
        }
        total += core->offsets[at[i] + 1] - core->offsets[at[i]];
    }
    if (!at || !(text = malloc(total + 16))) {
        PyErr_NoMemory();
        goto done;
    }
    char *to = text;
    u64 all = core->offsets[core->tokens];
    for (size_t i = 0; i < n; i++) {
        u64 start = core->offsets[at[i]], length = core->offsets[at[i] + 1] - start;
        if (length <= 16 && start + 16 <= all) memcpy(to, core->spelled + start, 16); /* two moves; the next overwrites the rest */
        else memcpy(to, core->spelled + start, length);
        to += length;
    }
    *size = total;
done:
    free(copied);
    if (buffer.obj) PyBuffer_Release(&buffer);
    return text;
}

static PyObject *core_decode(PyObject *self, PyObject *ids) {
    size_t n;
    char *text = spell((Core *)self, ids, &n);
    PyObject *out = text ? PyBytes_FromStringAndSize(text, (Py_ssize_t)n) : NULL;
    free(text);
    return out;
}

static PyObject *core_decode_text(PyObject *self, PyObject *ids) {
    size_t n;
    char *text = spell((Core *)self, ids, &n);
    PyObject *out = text ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)n, "replace") : NULL;
    free(text);
    return out;
}

static PyMethodDef core_methods[] = {
    {"encode", core_encode, METH_O, "ids of a text, as a list"},
    {"encode_bytes", core_encode_bytes, METH_O, "ids of a text or a list of texts, as the bytes of uint32, and where each text's end"},
    {"decode", core_decode, METH_O, "the bytes that ids, a buffer of uint32 or a list, spell"},
    {"decode_text", core_decode_text, METH_O, "the text that ids spell; bytes that are no UTF-8 become U+FFFD"},
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
