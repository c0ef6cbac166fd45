/* The tokenizer's inner loops in C: cutting text into words, merging bytes, counting pairs. The same as tokenizer.py and
 * bpe.py, which are to be read first and to which the tests compare it, id for id and merge for merge.
 *
 * What makes it fast: the pattern is a scanner instead of a regular expression; a word that was seen before is looked up
 * whole; no Python object is made for a word. Texts come as UTF-8; a text that is none (lone surrogates) is the caller's. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

/* ------------------------------------------------------------------------------------------------ words of a text */

enum { OTHER = 0, LETTER = 1, NUMBER = 2, SPACE = 3, NEWLINE = 4 }; /* of a character; the table comes from Python */

/* The class of the character at p and its length in bytes. */
static inline int classify(const u8 *table, const u8 *p, int *length) {
    u32 c = *p;
    if (c < 0x80) {
        *length = 1;
    } else if (c < 0xE0) {
        c = (c & 31) << 6 | (p[1] & 63);
        *length = 2;
    } else if (c < 0xF0) {
        c = (c & 15) << 12 | (u32)(p[1] & 63) << 6 | (p[2] & 63);
        *length = 3;
    } else {
        c = (c & 7) << 18 | (u32)(p[1] & 63) << 12 | (u32)(p[2] & 63) << 6 | (p[3] & 63);
        *length = 4;
    }
    return table[c];
}

static const u8 *run(const u8 *table, const u8 *p, const u8 *end, int wanted) {
    int n;
    while (p < end && classify(table, p, &n) == wanted) p += n;
    return p;
}

/* The end of 's 't 're 've 'm 'll 'd at an apostrophe, in any case; p where there is none. U+017F is a small s, too. */
static const u8 *contraction(const u8 *p, const u8 *end) {
    if (end - p < 2) return p;
    u8 a = p[1] | 32, b = end - p > 2 ? p[2] | 32 : 0;
    if (p[1] < 0x80 && (a == 's' || a == 't' || a == 'm' || a == 'd')) return p + 2;
    if (p[1] < 0x80 && b < 0x80 && end - p > 2 && p[2] < 0x80 &&
        ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')))
        return p + 3;
    if (end - p > 2 && p[1] == 0xC5 && p[2] == 0xBF) return p + 3;
    return p;
}

/* The end of the word that begins at p < end; the alternatives of PATTERN in its order. */
static const u8 *next_word(const u8 *table, const u8 *p, const u8 *end) {
    int n, m, class = classify(table, p, &n);
    if (*p == '\'') {
        const u8 *q = contraction(p, end);
        if (q > p) return q;
    }
    if (class == LETTER) return run(table, p + n, end, LETTER);
    if (class == NUMBER) return p + n;
    int next = p + n < end ? classify(table, p + n, &m) : -1;
    if (class != NEWLINE && next == LETTER) return run(table, p + n + m, end, LETTER);
    if (class == OTHER || (*p == ' ' && next == OTHER)) {
        p = run(table, p + n, end, OTHER);
        while (p < end && (*p == '\r' || *p == '\n')) p++;
        return p;
    }
    const u8 *last = p, *newline = NULL; /* a run of white space: its last character, and what follows its last newline */
    while (p < end && (class = classify(table, p, &n)) >= SPACE) {
        last = p;
        p += n;
        if (class == NEWLINE) newline = p;
    }
    if (newline) return newline;
    return p == end ? p : last; /* nothing where the run is one character: see word_end */
}

/* The same, and one white space before something else, which the last alternative takes, is a word by itself. */
static inline const u8 *word_end(const u8 *table, const u8 *p, const u8 *end) {
    const u8 *q = next_word(table, p, end);
    if (q == p) {
        int n;
        classify(table, p, &n);
        q = p + n;
    }
    return q;
}

static inline u64 mix(u64 x) {
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15ull;
    return x ^ x >> 29;
}

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

/* ------------------------------------------------------------------------------------------------ growing arrays */

#define ARRAY(type) struct { type *at; size_t n, room; }

static int grow_to(void **at, size_t *room, size_t wanted, size_t size) {
    if (wanted <= *room) return 0;
    size_t more = *room * 2 < 64 ? 64 : *room * 2;
    if (more < wanted) more = wanted;
    void *moved = realloc(*at, more * size);
    if (!moved) return -1;
    *at = moved;
    *room = more;
    return 0;
}

#define RESERVE(a, more) grow_to((void **)&(a).at, &(a).room, (a).n + (more), sizeof *(a).at)

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

/* ------------------------------------------------------------------------------------------------ learning */

typedef struct { u64 pair; int64_t count; u32 first, last, stamp; } Pair; /* count -1: empty; first, last: its places */
typedef struct { u32 word, next; } Place;
typedef struct { int64_t count; u64 pair; } Entry;
typedef struct { u64 start, count; u32 length, stamp; } Word;

#define NONE UINT32_MAX

typedef struct {
    PyObject_HEAD
    u8 *table;
    Known *seen; /* words: `word` in letters, `ids` is the number of the word */
    u64 seen_mask, seen_count;
    ARRAY(u8) letters;
    ARRAY(Word) words;
    /* while learning */
    u32 *symbols;
    Pair *pairs;
    u64 pair_mask, pair_count;
    ARRAY(Place) places;
    ARRAY(Entry) heap;
    ARRAY(u8) spelling;
    ARRAY(u64) offsets;
} Trainer;

static void trainer_dealloc(PyObject *self) {
    Trainer *t = (Trainer *)self;
    void *owned[] = {t->table, t->seen, t->letters.at, t->words.at, t->symbols, t->pairs, t->places.at, t->heap.at, t->spelling.at, t->offsets.at};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Trainer(table): counts words, then learns. */
static int trainer_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    Trainer *t = (Trainer *)self;
    Py_buffer table;
    static char *names[] = {"table", NULL};
    if (t->table || !PyArg_ParseTupleAndKeywords(args, kwargs, "y*", names, &table)) {
        if (t->table) PyErr_SetString(PyExc_RuntimeError, "a trainer is made once");
        return -1;
    }
    t->table = malloc(0x110000);
    t->seen_mask = (1u << 16) - 1;
    t->seen = calloc(t->seen_mask + 1, sizeof(Known));
    if (!t->table || !t->seen || table.len != 0x110000) PyErr_SetString(PyExc_ValueError, "expected 0x110000 classes");
    else memcpy(t->table, table.buf, 0x110000);
    PyBuffer_Release(&table);
    return PyErr_Occurred() ? -1 : 0;
}

static int more_seen(Trainer *t) {
    u64 mask = t->seen_mask * 2 + 1;
    Known *more = calloc(mask + 1, sizeof(Known));
    if (!more) return -1;
    for (u64 i = 0; i <= t->seen_mask; i++)
        if (t->seen[i].count) {
            u64 at = t->seen[i].hash & mask;
            while (more[at].count) at = (at + 1) & mask;
            more[at] = t->seen[i];
        }
    free(t->seen);
    t->seen = more;
    t->seen_mask = mask;
    return 0;
}

static int count_word(Trainer *t, const u8 *word, size_t length, u64 times) {
    u64 hash = hash_bytes(word, length), i = hash & t->seen_mask;
    for (Known *k; (k = &t->seen[i])->count; i = (i + 1) & t->seen_mask)
        if (k->hash == hash && k->length == length && !memcmp(t->letters.at + t->words.at[k->ids].start, word, length)) {
            t->words.at[k->ids].count += times;
            return 0;
        }
    if (RESERVE(t->letters, length) || RESERVE(t->words, 1) || t->words.n >= NONE) return -1;
    t->seen[i] = (Known){hash, 0, (u32)length, (u32)t->words.n, 1};
    t->words.at[t->words.n++] = (Word){t->letters.n, times, (u32)length, NONE};
    memcpy(t->letters.at + t->letters.n, word, length);
    t->letters.n += length;
    if (++t->seen_count * 2 > t->seen_mask) return more_seen(t);
    return 0;
}

static PyObject *trainer_feed(PyObject *self, PyObject *text) {
    Trainer *t = (Trainer *)self;
    Py_ssize_t n;
    const u8 *p = PyUnicode_Check(text) && t->table ? utf8(text, &n) : NULL;
    if (!p) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "expected a str, and a trainer that was made");
        return NULL;
    }
    int failed = n >= UINT32_MAX;
    Py_BEGIN_ALLOW_THREADS const u8 *end = p + n;
    while (p < end && !failed) {
        const u8 *q = word_end(t->table, p, end);
        failed = count_word(t, p, (size_t)(q - p), 1);
        p = q;
    }
    Py_END_ALLOW_THREADS if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int more_pairs(Trainer *t) {
    u64 mask = t->pair_mask * 2 + 1;
    Pair *more = malloc((mask + 1) * sizeof(Pair));
    if (!more) return -1;
    for (u64 i = 0; i <= mask; i++) more[i].count = -1;
    for (u64 i = 0; t->pairs && i <= t->pair_mask; i++)
        if (t->pairs[i].count >= 0) {
            u64 at = mix(t->pairs[i].pair) & mask;
            while (more[at].count >= 0) at = (at + 1) & mask;
            more[at] = t->pairs[i];
        }
    free(t->pairs);
    t->pairs = more;
    t->pair_mask = mask;
    return 0;
}

/* The record of a pair; a new one where there is none and `make` says so. */
static Pair *pair_at(Trainer *t, u32 a, u32 b, int make) {
    u64 pair = (u64)a << 32 | b, i = mix(pair) & t->pair_mask;
    for (; t->pairs[i].count >= 0; i = (i + 1) & t->pair_mask)
        if (t->pairs[i].pair == pair) return &t->pairs[i];
    if (!make) return NULL;
    if (++t->pair_count * 2 > t->pair_mask) {
        if (more_pairs(t)) return NULL;
        i = mix(pair) & t->pair_mask;
        while (t->pairs[i].count >= 0) i = (i + 1) & t->pair_mask;
    }
    t->pairs[i] = (Pair){pair, 0, NONE, NONE, NONE};
    return &t->pairs[i];
}

/* `count` more of a pair in a word; the word is noted once in a row. */
static Pair *add_pair(Trainer *t, u32 a, u32 b, u64 count, u32 word) {
    Pair *p = pair_at(t, a, b, 1);
    if (!p) return NULL;
    p->count += (int64_t)count;
    if (p->last == NONE || t->places.at[p->last].word != word) {
        if (RESERVE(t->places, 1) || t->places.n >= NONE) return NULL;
        t->places.at[t->places.n] = (Place){word, NONE};
        if (p->last == NONE) p->first = (u32)t->places.n;
        else t->places.at[p->last].next = (u32)t->places.n;
        p->last = (u32)t->places.n++;
    }
    return p;
}

static int compare_tokens(const Trainer *t, u32 a, u32 b) {
    if (a == b) return 0;
    size_t n = t->offsets.at[a + 1] - t->offsets.at[a], m = t->offsets.at[b + 1] - t->offsets.at[b];
    int c = memcmp(t->spelling.at + t->offsets.at[a], t->spelling.at + t->offsets.at[b], n < m ? n : m);
    return c ? c : (n > m) - (n < m);
}

/* Whether x is learned before y: the commoner, then the one whose bytes come last in the alphabet. */
static int sooner(const Trainer *t, const Entry *x, const Entry *y) {
    if (x->count != y->count) return x->count > y->count;
    int c = compare_tokens(t, (u32)(x->pair >> 32), (u32)(y->pair >> 32));
    if (!c) c = compare_tokens(t, (u32)x->pair, (u32)y->pair);
    return c ? c > 0 : x->pair < y->pair;
}

static int push(Trainer *t, int64_t count, u64 pair) {
    if (RESERVE(t->heap, 1)) return -1;
    Entry new = {count, pair};
    size_t at = t->heap.n++;
    for (size_t up; at && sooner(t, &new, &t->heap.at[up = (at - 1) / 2]); at = up) t->heap.at[at] = t->heap.at[up];
    t->heap.at[at] = new;
    return 0;
}

static Entry pop(Trainer *t) {
    Entry *heap = t->heap.at, top = heap[0], last = heap[--t->heap.n];
    size_t at = 0, n = t->heap.n;
    for (size_t down; (down = 2 * at + 1) < n; at = down) {
        if (down + 1 < n && sooner(t, &heap[down + 1], &heap[down])) down++;
        if (!sooner(t, &heap[down], &last)) break;
        heap[at] = heap[down];
    }
    heap[at] = last;
    return top;
}

static int spell(Trainer *t, u32 a, u32 b) {
    size_t n = t->offsets.at[a + 1] - t->offsets.at[a], m = t->offsets.at[b + 1] - t->offsets.at[b];
    if (RESERVE(t->spelling, n + m) || RESERVE(t->offsets, 1)) return -1;
    u8 *to = t->spelling.at + t->spelling.n;
    memcpy(to, t->spelling.at + t->offsets.at[a], n);
    memcpy(to + n, t->spelling.at + t->offsets.at[b], m);
    t->spelling.n += n + m;
    t->offsets.at[t->offsets.n++] = t->spelling.n;
    return 0;
}

/* Merge a pair in one word and keep the counts right. New pairs are collected on the heap's end by the caller. */
static int merge_in(Trainer *t, u32 w, u32 a, u32 b, u32 new, u64 *fresh, size_t *fresh_n) {
    Word *word = &t->words.at[w];
    u32 *s = t->symbols + word->start, n = word->length, to = 0;
    u64 count = word->count;
    for (u32 i = 0; i < n;) {
        if (i + 1 < n && s[i] == a && s[i + 1] == b) {
            if (to > 0) { /* the neighbour to the left, as it is by now: it may be a merged one */
                u32 old_left = s[to - 1] == new ? b : s[to - 1];
                Pair *p = pair_at(t, old_left, a, 0);
                if (p) p->count -= (int64_t)count;
                p = add_pair(t, s[to - 1], new, count, w);
                if (!p) return -1;
                fresh[(*fresh_n)++] = p->pair;
            }
            if (i + 2 < n && !(i + 3 < n && s[i + 2] == a && s[i + 3] == b)) {
                Pair *p = pair_at(t, b, s[i + 2], 0);
                if (p) p->count -= (int64_t)count;
                p = add_pair(t, new, s[i + 2], count, w);
                if (!p) return -1;
                fresh[(*fresh_n)++] = p->pair;
            }
            s[to++] = new;
            i += 2;
        } else {
            s[to++] = s[i++];
        }
    }
    word->length = to;
    return 0;
}

static int learn(Trainer *t, size_t wanted, u32 *learned, size_t *learned_n) {
    size_t total = t->letters.n, longest = 0;
    t->symbols = malloc((total + 1) * sizeof(u32));
    t->pair_mask = (1u << 15) - 1;
    if (!t->symbols || more_pairs(t)) return -1;
    for (u32 b = 0; b < 257; b++) {
        if (RESERVE(t->offsets, 1) || RESERVE(t->spelling, 1)) return -1;
        t->offsets.at[t->offsets.n++] = b;
        if (b < 256) t->spelling.at[t->spelling.n++] = (u8)b;
    }
    for (size_t i = 0; i < total; i++) t->symbols[i] = t->letters.at[i];
    for (size_t w = 0; w < t->words.n; w++) {
        Word *word = &t->words.at[w];
        u32 *s = t->symbols + word->start;
        if (word->length > longest) longest = word->length;
        for (u32 i = 0; i + 1 < word->length; i++)
            if (!add_pair(t, s[i], s[i + 1], word->count, (u32)w)) return -1;
    }
    for (u64 i = 0; i <= t->pair_mask; i++)
        if (t->pairs[i].count > 0 && push(t, t->pairs[i].count, t->pairs[i].pair)) return -1;
    ARRAY(u64) fresh = {NULL, 0, 0};
    int failed = 0;
    while (t->heap.n && *learned_n < wanted && !failed) {
        Entry top = pop(t);
        u32 a = (u32)(top.pair >> 32), b = (u32)top.pair, new = 256 + (u32)*learned_n;
        Pair *p = pair_at(t, a, b, 0);
        if (p->count != top.count) { /* an old entry: the pair's count has fallen since */
            if (p->count > 0) failed = push(t, p->count, top.pair);
            continue;
        }
        learned[2 * *learned_n] = a;
        learned[2 * (*learned_n)++ + 1] = b;
        failed = spell(t, a, b);
        fresh.n = 0;
        for (u32 at = p->first; at != NONE && !failed; at = t->places.at[at].next) {
            u32 w = t->places.at[at].word;
            if (t->words.at[w].stamp == new) continue;
            t->words.at[w].stamp = new;
            failed = RESERVE(fresh, 2 * (size_t)t->words.at[w].length + 2) || merge_in(t, w, a, b, new, fresh.at, &fresh.n);
        }
        pair_at(t, a, b, 0)->count = 0;
        for (size_t i = 0; i < fresh.n && !failed; i++) {
            Pair *q = pair_at(t, (u32)(fresh.at[i] >> 32), (u32)fresh.at[i], 0);
            if (q->stamp != new && q->count > 0) {
                q->stamp = new;
                failed = push(t, q->count, q->pair);
            }
        }
    }
    free(fresh.at);
    return failed ? -1 : 0;
}

/* learn(n): at most n merges, as the bytes of uint32, left and right of each in turn. Once. */
static PyObject *trainer_learn(PyObject *self, PyObject *wanted) {
    Trainer *t = (Trainer *)self;
    size_t n = PyLong_AsSize_t(wanted), found = 0;
    if (PyErr_Occurred()) return NULL;
    if (t->symbols || n > (1u << 24)) {
        PyErr_SetString(PyExc_ValueError, "a trainer learns once, and 2^24 merges at most");
        return NULL;
    }
    u32 *learned = malloc((2 * n + 1) * sizeof(u32));
    if (!learned) return PyErr_NoMemory();
    int failed;
    Py_BEGIN_ALLOW_THREADS failed = learn(t, n, learned, &found);
    Py_END_ALLOW_THREADS PyObject *out =
        failed ? PyErr_NoMemory() : PyBytes_FromStringAndSize((const char *)learned, (Py_ssize_t)(2 * found * sizeof(u32)));
    free(learned);
    return out;
}

/* words(): every word's bytes and how often it was fed, as a dict; for the tests. */
static PyObject *trainer_words(PyObject *self, PyObject *nothing) {
    (void)nothing;
    Trainer *t = (Trainer *)self;
    PyObject *out = PyDict_New();
    for (size_t w = 0; out && w < t->words.n && !t->symbols; w++) {
        PyObject *word = PyBytes_FromStringAndSize((const char *)t->letters.at + t->words.at[w].start, t->words.at[w].length);
        PyObject *count = PyLong_FromUnsignedLongLong(t->words.at[w].count);
        if (!word || !count || PyDict_SetItem(out, word, count)) Py_CLEAR(out);
        Py_XDECREF(word);
        Py_XDECREF(count);
    }
    return out;
}

static PyMethodDef trainer_methods[] = {
    {"feed", trainer_feed, METH_O, "count the words of a text"},
    {"learn", trainer_learn, METH_O, "the merges, as the bytes of uint32"},
    {"words", trainer_words, METH_NOARGS, "the words and their counts"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_init, trainer_init}, {Py_tp_dealloc, trainer_dealloc}, {Py_tp_methods, trainer_methods}, {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

static PyType_Spec trainer_spec = {"sprout.tokenizer._native.Trainer", sizeof(Trainer), 0, Py_TPFLAGS_DEFAULT, trainer_slots};

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
