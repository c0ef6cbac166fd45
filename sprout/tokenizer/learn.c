/* Learning merges: counting the words of texts, then merging the commonest pair over and over. The same as train_merges in
 * bpe.py, which is to be read first.
 *
 * What makes it fast: all different words lie one behind the other in one array of symbols, and a pair knows the places where
 * it begins; a merge touches these places and nothing else, and sums up what it does to other pairs before it looks one up.
 * All places of a pair come into being in one merge, that of its later half; afterwards they only become fewer. Pairs rarer
 * than a floor, which can't be merged before all others are, have no record at all; should the others run out, all pairs
 * are counted anew with a lower floor. */

#include "native.h"

typedef struct { Key key; u64 count, start; } Word; /* count 0: empty; start: place in letters of one of more than 15 bytes */
typedef struct { u32 at, count; } Place;            /* where a pair begins, and how often its word occurs */
typedef struct { u64 pair, count, places; u32 n, taken; } Pair; /* left << 32 | right; n places from `places` on */
typedef struct { u64 count, pair; } Entry;

#define NONE UINT32_MAX /* no symbol: between words, and within a token of three bytes and more */

typedef struct {
    PyObject_HEAD
    u8 *table;
    Word *seen;
    u64 seen_mask, seen_count;
    ARRAY(u8) letters;
    /* while learning */

    Pair *pairs;
    u64 pair_mask, pair_count, floor;
    ARRAY(Place) places;
    ARRAY(Entry) heap;
    ARRAY(u8) spelling;
    ARRAY(u64) offsets;
} Trainer;

static void trainer_dealloc(PyObject *self) {
    Trainer *t = (Trainer *)self;
    void *owned[] = {t->table, t->seen, t->letters.at, t->pairs, t->places.at, t->heap.at, t->spelling.at, t->offsets.at};
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
    t->table = malloc(CLASSES);
    t->seen_mask = (1u << 12) - 1;
    t->seen = calloc(t->seen_mask + 1, sizeof(Word));
    if (!t->table || !t->seen || table.len != CLASSES) PyErr_SetString(PyExc_ValueError, "expected 0x110000 classes");
    else memcpy(t->table, table.buf, CLASSES);
    PyBuffer_Release(&table);
    return PyErr_Occurred() ? -1 : 0;
}

/* ------------------------------------------------------------------------------------------------ counting words */

static int more_seen(Trainer *t) {
    u64 mask = t->seen_mask * 4 + 3;
    Word *more = calloc(mask + 1, sizeof(Word));
    if (!more) return -1;
    for (u64 i = 0; i <= t->seen_mask; i++)
        if (t->seen[i].count) {
            u64 at = key_hash(t->seen[i].key) & mask;
            while (more[at].count) at = (at + 1) & mask;
            more[at] = t->seen[i];
        }
    free(t->seen);
    t->seen = more;
    t->seen_mask = mask;
    return 0;
}

static int count_word(Trainer *t, Key key, u64 hash, const u8 *word, u64 times) {
    u64 i = hash & t->seen_mask, length = key.hi >> 56;
    for (Word *w; (w = &t->seen[i])->count; i = (i + 1) & t->seen_mask)
        if (w->key.lo == key.lo && w->key.hi == key.hi &&
            (length <= INLINE_WORD || !memcmp(t->letters.at + w->start, word, key.hi & NONE))) {
            w->count += times;
            return 0;
        }
    t->seen[i] = (Word){key, times, t->letters.n};
    if (length > INLINE_WORD) {
        if (RESERVE(t->letters, key.hi & NONE)) return -1;
        memcpy(t->letters.at + t->letters.n, word, key.hi & NONE);
        t->letters.n += key.hi & NONE;
    }
    if (++t->seen_count * 2 > t->seen_mask) return more_seen(t);
    return 0;
}

static int count_text(Trainer *t, const u8 *p, const u8 *end) {
    const u8 *ends[BATCH + WINDOW], *words[BATCH + WINDOW];
    Key keys[BATCH + WINDOW];
    u64 hashes[BATCH + WINDOW];
    while (p < end) {
        int n = cut(t->table, p, end, ends);
        for (int i = 0; i < n; p = ends[i++]) {
            words[i] = p;
            keys[i] = key_of(p, (size_t)(ends[i] - p), end);
            hashes[i] = key_hash(keys[i]);
            PREFETCH(&t->seen[hashes[i] & t->seen_mask]);
        }
        for (int i = 0; i < n; i++)
            if (count_word(t, keys[i], hashes[i], words[i], 1)) return -1;
    }
    return 0;
}

/* feed(texts): count the words of a text or of a list of them; other threads run meanwhile. */
static PyObject *trainer_feed(PyObject *self, PyObject *given) {
    Trainer *t = (Trainer *)self;
    Text *texts;
    Py_ssize_t count;
    if (!t->table) return PyErr_Format(PyExc_TypeError, "the trainer was never made");
    PyObject *held = texts_of(given, &texts, &count);
    if (!held) return NULL;
    int failed = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count && !failed; i++) failed = count_text(t, texts[i].at, texts[i].at + texts[i].n);
    Py_END_ALLOW_THREADS
    free(texts);
    Py_DECREF(held);
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static const u8 *word_bytes(const Trainer *t, const Word *w, size_t *n) {
    *n = w->key.hi >> 56;
    if (*n <= INLINE_WORD) return (const u8 *)&w->key;
    *n = w->key.hi & NONE;
    return t->letters.at + w->start;
}

/* absorb(other): its counts, too. */
static PyObject *trainer_absorb(PyObject *self, PyObject *given) {
    Trainer *t = (Trainer *)self, *other = (Trainer *)given;
    if (Py_TYPE(given) != Py_TYPE(self) || t == other || !t->table || !other->table)
        return PyErr_Format(PyExc_TypeError, "expected another trainer");
    for (u64 i = 0; i <= other->seen_mask; i++) {
        const Word *w = &other->seen[i];
        size_t n;
        if (w->count && count_word(t, w->key, key_hash(w->key), word_bytes(other, w, &n), w->count)) return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------------------ pairs */

static int more_pairs(Trainer *t, u64 mask) {
    Pair *more = malloc((mask + 1) * sizeof(Pair));
    if (!more) return -1;
    for (u64 i = 0; i <= mask; i++) more[i].taken = 0;
    for (u64 i = 0; t->pairs && i <= t->pair_mask; i++)
        if (t->pairs[i].taken) {
            u64 at = mix(t->pairs[i].pair) & mask;
            while (more[at].taken) at = (at + 1) & mask;
            more[at] = t->pairs[i];
        }
    free(t->pairs);
    t->pairs = more;
    t->pair_mask = mask;
    return 0;
}

/* The record of a pair, NULL where there is none. */
static inline Pair *pair_at(const Trainer *t, u64 pair) {
    u64 i = mix(pair) & t->pair_mask;
    for (; t->pairs[i].taken; i = (i + 1) & t->pair_mask)
        if (t->pairs[i].pair == pair) return &t->pairs[i];
    return NULL;
}

/* A new record for a pair that has none. */
static Pair *new_pair(Trainer *t, u64 pair) {
    if (++t->pair_count * 2 > t->pair_mask && more_pairs(t, t->pair_mask * 2 + 1)) return NULL;
    u64 i = mix(pair) & t->pair_mask;
    while (t->pairs[i].taken) i = (i + 1) & t->pair_mask;
    t->pairs[i] = (Pair){pair, 0, 0, 0, 1};
    return &t->pairs[i];
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

static int push(Trainer *t, u64 count, u64 pair) {
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

static inline u32 spelled(const Trainer *t, u32 id) { return (u32)(t->offsets.at[id + 1] - t->offsets.at[id]); }

/* ------------------------------------------------------------------------------------------------ learning */

/* All words that have a pair, in the order of the table: symbols with NONE before, between and behind; how often each. */
typedef struct { ARRAY(u32) symbols, counts; } Words;

static int lay_out(Trainer *t, Words *words) {
    for (u64 i = 0; i <= t->seen_mask; i++) {
        const Word *w = &t->seen[i];
        size_t n;
        const u8 *bytes = word_bytes(t, w, &n);
        for (u64 left = n > 1 ? w->count : 0, part; left; left -= part) { /* a count beyond 32 bits: a word several times */
            part = left < UINT32_MAX ? left : UINT32_MAX;
            if (RESERVE(words->symbols, n + 2) || RESERVE(words->counts, 1) || words->symbols.n + n + 2 >= UINT32_MAX) return -1;
            u32 *to = words->symbols.at + words->symbols.n;
            to[0] = NONE;
            for (size_t b = 0; b < n; b++) to[b + 1] = bytes[b];
            words->symbols.n += n + 1;
            words->counts.at[words->counts.n++] = (u32)part;
        }
    }
    if (RESERVE(words->symbols, 1)) return -1;
    words->symbols.at[words->symbols.n++] = NONE;
    return 0;
}

/* Count all pairs from the symbols, and make records, places and the heap of those that reach the floor. */
static int survey(Trainer *t, const Words *words) {
    const u32 *s = words->symbols.at;
    free(t->pairs);
    t->pairs = NULL;
    t->pair_count = 0;
    t->heap.n = t->places.n = 0;
    if (more_pairs(t, (1u << 12) - 1)) return -1;
    for (int fill = 0; fill < 2; fill++) {
        size_t word = 0;
        for (size_t p = 1; p + 1 < words->symbols.n;) {
            u32 a = s[p], length = spelled(t, a), b = s[p + length], count = words->counts.at[word];
            if (b == NONE) {
                word++;
                p += length + 1;
                continue;
            }
            u64 both = (u64)a << 32 | b;
            Pair *pair = pair_at(t, both);
            if (fill) {
                if (pair) t->places.at[pair->places + pair->n++] = (Place){(u32)p, count};
            } else {
                if (!pair && !(pair = new_pair(t, both))) return -1;
                pair->count += count;
                pair->n++;
            }
            p += length;
        }
        if (fill) break;
        Pair *all = t->pairs;
        u64 mask = t->pair_mask;
        t->pairs = NULL;
        t->pair_count = 0;
        int failed = more_pairs(t, (1u << 12) - 1);
        for (u64 i = 0; i <= mask && !failed; i++) {
            if (!all[i].taken || all[i].count < t->floor) continue;
            Pair *kept = new_pair(t, all[i].pair);
            failed = !kept || RESERVE(t->places, all[i].n) || push(t, all[i].count, all[i].pair);
            if (failed) break;
            kept->count = all[i].count;
            kept->places = t->places.n;
            t->places.n += all[i].n;
        }
        free(all);
        if (failed) return -1;
    }
    return 0;
}

/* What a merge of (a, b) into c did to its neighbours, by the neighbour's id: occurrences of (id, a), now (id, c), and of
 * (b, id), now (c, id); how many places they are; where the next one goes. */
typedef struct { u64 left, right; u32 lefts, rights; u64 left_to, right_to; } Change;
typedef struct { u32 id; Place place; } Record;
typedef struct { Change *of; ARRAY(u32) touched; ARRAY(Record) lefts, rights; } Changes;

#define AHEAD 12 /* places whose symbols are asked for in advance */

static int merge_places(Trainer *t, u32 *s, const Place *places, u32 count, u32 a, u32 b, u32 c, Changes *changes) {
    u32 length = spelled(t, a), whole = length + spelled(t, b), ahead = count > AHEAD ? count - AHEAD : 0;
    changes->touched.n = changes->lefts.n = changes->rights.n = 0;
    if (RESERVE(changes->touched, 2 * (size_t)count) || RESERVE(changes->lefts, count) || RESERVE(changes->rights, count)) return -1;
    for (u32 i = 0; i < count; i++) {
        if (i < ahead) PREFETCH(&s[places[i + AHEAD].at]);
        u32 p = places[i].at, times = places[i].count, q = p + length;
        if (s[p] != a || s[q] != b) continue; /* one of the two was merged otherwise since */
        u32 x = s[p - 1], y = s[p + whole];
        s[q] = NONE;
        s[p] = s[p + whole - 1] = c;
        if (x != NONE) {
            Change *change = &changes->of[x];
            if (!change->lefts && !change->rights) changes->touched.at[changes->touched.n++] = x;
            if (x == c) changes->of[a].right -= times; /* (c, a), of a moment ago, is gone; its place is an old one now */
            change->left += times;
            change->lefts++;
            changes->lefts.at[changes->lefts.n++] = (Record){x, {p - (x == c ? whole : spelled(t, x)), times}};
        }
        if (y != NONE) {
            Change *change = &changes->of[y];
            if (!change->lefts && !change->rights) changes->touched.at[changes->touched.n++] = y;
            change->right += times;
            change->rights++;
            changes->rights.at[changes->rights.n++] = (Record){y, {p, times}};
        }
    }
    return 0;
}

/* A pair that came into being, `n` places of it: where they go, UINT64_MAX for one below the floor. */
static int begin_pair(Trainer *t, u64 both, u64 count, u32 n, u64 *to) {
    *to = UINT64_MAX;
    if (count < t->floor || !n) return 0;
    if (RESERVE(t->places, n) || push(t, count, both)) return -1;
    Pair *pair = new_pair(t, both);
    if (!pair) return -1;
    *to = pair->places = t->places.n;
    pair->count = count;
    pair->n = n;
    t->places.n += n;
    return 0;
}

static int settle(Trainer *t, u32 a, u32 b, u32 c, Changes *changes) {
    for (size_t i = 0; i < changes->touched.n; i++) {
        u32 x = changes->touched.at[i];
        Change *change = &changes->of[x];
        Pair *pair = change->lefts && x != c ? pair_at(t, (u64)x << 32 | a) : NULL;
        if (pair) pair->count -= change->left;
        /* Of (b, a), what is between two merged pairs, the second's `lefts` know nothing: `rights` counted it. */
        pair = change->rights ? pair_at(t, (u64)b << 32 | x) : NULL;
        if (pair) pair->count -= x == a ? change->right + changes->of[c].left : change->right;
        if (begin_pair(t, (u64)x << 32 | c, change->left, change->lefts, &change->left_to)) return -1;
        if (begin_pair(t, (u64)c << 32 | x, change->right, change->rights, &change->right_to)) return -1;
    }
    for (size_t i = 0; i < changes->lefts.n; i++) {
        u64 *to = &changes->of[changes->lefts.at[i].id].left_to;
        if (*to != UINT64_MAX) t->places.at[(*to)++] = changes->lefts.at[i].place;
    }
    for (size_t i = 0; i < changes->rights.n; i++) {
        u64 *to = &changes->of[changes->rights.at[i].id].right_to;
        if (*to != UINT64_MAX) t->places.at[(*to)++] = changes->rights.at[i].place;
    }
    for (size_t i = 0; i < changes->touched.n; i++) memset(&changes->of[changes->touched.at[i]], 0, sizeof(Change));
    return 0;
}

static int learn(Trainer *t, size_t wanted, u64 floor, u32 *learned, size_t *learned_n) {
    Words words = {{NULL, 0, 0}, {NULL, 0, 0}};
    Changes changes = {calloc(wanted + 257, sizeof(Change)), {NULL, 0, 0}, {NULL, 0, 0}, {NULL, 0, 0}};
    int failed = !changes.of || RESERVE(t->offsets, 257) || RESERVE(t->spelling, 256) || lay_out(t, &words);
    for (u32 b = 0; b < 257 && !failed; b++) {
        t->offsets.at[t->offsets.n++] = b;
        if (b < 256) t->spelling.at[t->spelling.n++] = (u8)b;
    }
    /* The last of many merges is usually ten times as common as this. */
    u64 total = 0;
    for (size_t w = 0; w < words.counts.n; w++) total += words.counts.at[w];
    t->floor = floor ? floor : 1 + total / (32 * (u64)wanted + 1);
    failed = failed || survey(t, &words);
    while (*learned_n < wanted && !failed) {
        if (!t->heap.n) {
            if (t->floor == 1) break;
            t->floor = t->floor < 8 ? 1 : t->floor / 8;
            failed = survey(t, &words);
            continue;
        }
        Entry top = pop(t);
        Pair *pair = pair_at(t, top.pair);
        if (pair->count != top.count) { /* an old entry: the pair's count has fallen since */
            if (pair->count >= t->floor) failed = push(t, pair->count, top.pair);
            continue;
        }
        u32 a = (u32)(top.pair >> 32), b = (u32)top.pair, c = 256 + (u32)*learned_n;
        learned[2 * *learned_n] = a;
        learned[2 * (*learned_n)++ + 1] = b;
        failed = spell(t, a, b) ||
                 merge_places(t, words.symbols.at, t->places.at + pair->places, pair->n, a, b, c, &changes) ||
                 settle(t, a, b, c, &changes);
        if (!failed) pair_at(t, top.pair)->count = 0;
    }
    void *owned[] = {words.symbols.at, words.counts.at, changes.of, changes.touched.at, changes.lefts.at, changes.rights.at};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    return failed ? -1 : 0;
}

/* learn(n, floor=0): at most n merges, as the bytes of uint32, left and right of each in turn. Once. Pairs below the floor
 * are looked at only when the others run out: it changes the time, never the merges. 0: one that suits the texts. */
static PyObject *trainer_learn(PyObject *self, PyObject *args) {
    Trainer *t = (Trainer *)self;
    Py_ssize_t n;
    unsigned long long floor = 0;
    if (!PyArg_ParseTuple(args, "n|K", &n, &floor)) return NULL;
    if (!t->table || t->offsets.n || n < 0 || n > (1 << 24))
        return PyErr_Format(PyExc_ValueError, "a trainer learns once, and 2^24 merges at most");
    u32 *learned = malloc((2 * (size_t)n + 1) * sizeof(u32));
    if (!learned) return PyErr_NoMemory();
    size_t found = 0;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = learn(t, (size_t)n, floor, learned, &found);
    Py_END_ALLOW_THREADS
    PyObject *out = failed ? PyErr_NoMemory() : PyBytes_FromStringAndSize((const char *)learned, (Py_ssize_t)(2 * found * sizeof(u32)));
    free(learned);
    return out;
}

/* words(): every word's bytes and how often it was fed, as a dict; for the tests. */
static PyObject *trainer_words(PyObject *self, PyObject *nothing) {
    (void)nothing;
    Trainer *t = (Trainer *)self;
    PyObject *out = PyDict_New();
    for (u64 i = 0; out && t->table && i <= t->seen_mask; i++) {
        const Word *w = &t->seen[i];
        if (!w->count) continue;
        size_t n;
        const u8 *bytes = word_bytes(t, w, &n);
        PyObject *word = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)n);
        PyObject *count = PyLong_FromUnsignedLongLong(w->count);
        if (!word || !count || PyDict_SetItem(out, word, count)) Py_CLEAR(out);
        Py_XDECREF(word);
        Py_XDECREF(count);
    }
    return out;
}

static PyMethodDef trainer_methods[] = {
    {"feed", trainer_feed, METH_O, "count the words of a text, or of a list of texts"},
    {"absorb", trainer_absorb, METH_O, "add the counts of another trainer"},
    {"learn", trainer_learn, METH_VARARGS, "the merges, as the bytes of uint32"},
    {"words", trainer_words, METH_NOARGS, "the words and their counts"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trainer_slots[] = {
    {Py_tp_init, trainer_init}, {Py_tp_dealloc, trainer_dealloc}, {Py_tp_methods, trainer_methods}, {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

PyType_Spec trainer_spec = {"sprout.tokenizer._native.Trainer", sizeof(Trainer), 0, Py_TPFLAGS_DEFAULT, trainer_slots};
