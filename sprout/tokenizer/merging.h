/* What encoding knows, and merging: bytes to ids by the rank of their pairs, for one word. native.h comes before. */

#define LONGEST_KNOWN 62     /* bytes of a word that is remembered, and merged without a heap */
#define SETS (1u << 17)      /* of two remembered words each: 8 MB */
#define MOST_REST (1u << 22) /* numbers in `rest`, 16 MB: past that all words are forgotten */
#define ID_BITS 21
#define RANK_BITS 22
#define NO_RANK ((1 << RANK_BITS) - 1) /* what an empty place of merges says */

typedef struct { Key key; u32 count, ids[3]; } Known; /* more than three ids, and a long word's bytes, are in rest from ids[0] on */
#define IN_REST (1u << 31) /* said in count, then */
typedef struct { u64 order; u32 a, b; } Offer; /* order: rank << 32 | place of the left one */

/* What one text at a time needs. */
typedef struct State {
    struct State *next;
    Known *known, *owned; /* pairs of entries, one cache line each; what malloc gave */
    ARRAY(u32) rest;
    ARRAY(u32) out;
    ARRAY(u32) scratch; /* of a long word ids, left and right neighbours */
    ARRAY(Offer) heap;
} State;

typedef struct {
    PyObject_HEAD
    u8 *table;
    u64 *merges; /* open addressing: left id, right id, rank; all ones where there is none */
    u64 *sieve;  /* a bit for the hash of every pair that merges: most don't, and this fits into a nearer cache */
    int32_t *byte_ranks; /* of two bytes, by their values */
    u32 *new_ids; /* by rank; NULL: rank + 256 */
    u64 merge_mask, sieve_mask;
    u32 *whole; /* tokens of up to 15 bytes that encode as themselves */
    u32 whole_n;
    u32 byte_ids[256];
    u32 tokens; /* specials are behind these */
    u8 *spelled;
    u64 *offsets; /* of the tokens in spelled, one more than there are */
    PyObject **numbers; /* the ids as Python's numbers */
    State *states; /* those at rest; whoever holds the interpreter's lock takes one */
    int ready;
} Core;

static inline u64 pair_of(u32 a, u32 b) { return (u64)a << ID_BITS | b; }

static inline u64 merge_place(const Core *core, u64 pair) { return pair * 0x9E3779B97F4A7C15ull >> 40 & core->merge_mask; }

static inline u64 sieve_bit(const Core *core, u64 pair) { return pair * 0x9E3779B97F4A7C15ull >> 28 & core->sieve_mask; }

/* The rank of the merge of two ids, NO_RANK where there is none. But for a rare second probe no branch depends on the text:
 * every other would be mispredicted, and only when its data have come from memory. */
static inline int32_t rank_of(const Core *core, u32 a, u32 b) {
    u64 pair = pair_of(a, b), i = merge_place(core, pair), bit = sieve_bit(core, pair);
    PREFETCH(&core->merges[i]); /* on its way while the sieve is asked */
    u64 maybe = core->sieve[bit >> 6] >> (bit & 63) & 1;
    u64 found = core->merges[i ^ ((i ^ (core->merge_mask + 1)) & (maybe - 1))]; /* an empty place where the sieve says no */
    while ((found >> RANK_BITS != pair) & (found != ~0ull)) found = core->merges[i = (i + 1) & core->merge_mask];
    return (int32_t)(found & NO_RANK);
}

#define NOBODY ((1u << ID_BITS) - 1) /* an id that merges with none */

static inline int32_t least_of(const int32_t *offers, size_t width) {
    int32_t least[8];
    memcpy(least, offers, sizeof least);
    for (size_t i = 8; i < width; i += 8)
        for (int k = 0; k < 8; k++) least[k] = offers[i + k] < least[k] ? offers[i + k] : least[k];
    for (int k = 0; k < 4; k++) least[k] = least[k + 4] < least[k] ? least[k + 4] : least[k];
    for (int k = 0; k < 2; k++) least[k] = least[k + 2] < least[k] ? least[k + 2] : least[k];
    return least[1] < least[0] ? least[1] : least[0];
}

/* All merges of a word of up to 62 bytes: its ids to out, their number. An offer is the rank of a pair's merge with the pair's
 * place below it in one number, so that the smallest is the one to take: the first learned, the leftmost of several. Both
 * ends are NOBODY, so that there are neighbours always. `width` is more than n, a multiple of 8, and as many bytes can be
 * read and ids written: where it is a constant no loop's end depends on the word. */
static inline u32 merge_within(const Core *core, const u8 *word, size_t n, u32 *out, size_t width) {
    u64 alive = ~0ull >> (62 - n); /* bit i: ids[i] is there */
    u32 ids[65];
    int32_t offers[64];
    ids[0] = NOBODY;
    for (size_t i = 0; i < width; i++) ids[i + 1] = core->byte_ids[word[i]];
    ids[n + 1] = NOBODY;
    offers[0] = INT32_MAX;
    for (size_t i = 1; i < width; i++) {
        int32_t offer = core->byte_ranks[word[i - 1] << 8 | word[i]] << 6 | (int32_t)i;
        offers[i] = i < n ? offer : INT32_MAX;
    }
    int32_t best = least_of(offers, width);
    while (best < NO_RANK << 6) {
        int i = best & 63;
        u64 behind = alive & ~1ull << i;
        int j = FIRST_BIT(behind), h = LAST_BIT(alive & ((1ull << i) - 1));
        alive &= ~(1ull << j);
        behind &= behind - 1;
        u32 new = ids[i] = core->new_ids ? core->new_ids[best >> 6] : (u32)(best >> 6) + 256;
        offers[h] = offers[i] = offers[j] = INT32_MAX;
        /* The two new offers and the least of the others need not wait for each other. */
        int32_t right = rank_of(core, new, ids[FIRST_BIT(behind)]) << 6 | i;
        int32_t left = rank_of(core, ids[h], new) << 6 | h;
        best = least_of(offers, width);
        offers[i] = right;
        offers[h] = left;
        right = left < right ? left : right;
        best = right < best ? right : best;
    }
    u32 count = 0;
    for (size_t i = 1; i <= width; i++) {
        out[count] = ids[i];
        count += i <= n && alive >> i & 1;
    }
    return count;
}

static u32 merge_short(const Core *core, const u8 *word, size_t n, u32 *out) {
    u8 padded[LONGEST_KNOWN + 2] = {0};
    if (n <= INLINE_WORD) {
        memcpy(padded, word, n);
        return merge_within(core, padded, n, out, 16);
    }
    memcpy(padded, word, n);
    return merge_within(core, padded, n, out, (n + 8) & ~(size_t)7);
}

static int offer(const Core *core, State *state, u32 *ids, const u32 *right, u32 i, u32 n) {
    u32 j = right[i];
    int32_t rank = j < n ? rank_of(core, ids[i], ids[j]) : NO_RANK;
    if (rank == NO_RANK) return 0;
    if (RESERVE(state->heap, 1)) return -1;
    Offer new = {(u64)rank << 32 | i, ids[i], ids[j]}, *heap = state->heap.at;
    size_t at = state->heap.n++;
    for (size_t up; at && new.order < heap[up = (at - 1) / 4].order; at = up) heap[at] = heap[up];
    heap[at] = new;
    return 0;
}

/* The heap has four branches: half as deep, and the four lie next to each other. */
static Offer take(State *state) {
    Offer *heap = state->heap.at, top = heap[0], last = heap[--state->heap.n];
    size_t at = 0, n = state->heap.n;
    for (size_t down; (down = 4 * at + 1) < n; at = down) {
        size_t end = down + 4 < n ? down + 4 : n;
        for (size_t k = down + 1; k < end; k++) down = heap[k].order < heap[down].order ? k : down;
        if (last.order <= heap[down].order) break;
        heap[at] = heap[down];
    }
    heap[at] = last;
    return top;
}

/* The same for a word of any length, with a heap over a linked list: n log n. The ids go to state->out. */
static int merge_long(const Core *core, State *state, const u8 *word, size_t length) {
    u32 n = (u32)length;
    state->scratch.n = 0;
    if (RESERVE(state->scratch, 3 * length) || RESERVE(state->out, length)) return -1;
    u32 *ids = state->scratch.at, *left = ids + n, *right = left + n;
    for (u32 i = 0; i < n; i++) {
        ids[i] = core->byte_ids[word[i]];
        left[i] = i - 1;
        right[i] = i + 1;
    }
    state->heap.n = 0;
    for (u32 i = 0; i < n; i++)
        if (offer(core, state, ids, right, i, n)) return -1;
    while (state->heap.n) {
        Offer m = take(state);
        u32 i = (u32)m.order, j = right[i];
        if (ids[i] != m.a || j >= n || ids[j] != m.b) continue; /* one of the two was merged otherwise since */
        ids[i] = core->new_ids ? core->new_ids[m.order >> 32] : (u32)(m.order >> 32) + 256;
        ids[j] = UINT32_MAX;
        right[i] = right[j];
        if (right[j] < n) left[right[j]] = i;
        if (i > 0 && offer(core, state, ids, right, left[i], n)) return -1;
        if (offer(core, state, ids, right, i, n)) return -1;
    }
    for (u32 i = 0; i < n; i = right[i]) state->out.at[state->out.n++] = ids[i];
    return 0;
}
