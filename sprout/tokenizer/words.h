/* Cutting a text into words: the pattern of tokenizer.py as a scanner. word_end finds the end of one word, whatever the text;
 * starts finds the beginnings of many at once where the text is plain. native.h comes before. */

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { OTHER = 0, LETTER = 1, NUMBER = 2, SPACE = 3, NEWLINE = 4 }; /* of a character; the table comes from Python */

#define CLASSES 0x110000

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

static inline const u8 *run(const u8 *table, const u8 *p, const u8 *end, int wanted) {
    int n;
    while (p < end && classify(table, p, &n) == wanted) p += n;
    return p;
}

#define EACH_BYTE 0x0101010101010101ull

/* The highest bit of every byte that is no ASCII letter, for eight bytes at once. */
static inline u64 not_letters(u64 w) {
    u64 low = (w & EACH_BYTE * 0x7F) | EACH_BYTE * 0x20;
    u64 letters = (low + EACH_BYTE * (0x80 - 'a')) & ~(low + EACH_BYTE * (0x7F - 'z')) & ~w;
    return ~letters & EACH_BYTE * 0x80;
}

/* As run for LETTER; ASCII, eight bytes at a time. */
static inline const u8 *letters(const u8 *table, const u8 *p, const u8 *end) {
    while (end - p >= 8) {
        u64 w;
        memcpy(&w, p, 8);
        w = not_letters(w);
        if (w) {
            p += FIRST_BIT(w) >> 3;
            if (*p < 0x80) return p;
            break;
        }
        p += 8;
    }
    return run(table, p, end, LETTER);
}

/* The end of 's 't 're 've 'm 'll 'd at an apostrophe, in any case; p where there is none. U+017F is a small s, too. */
static inline const u8 *contraction(const u8 *p, const u8 *end) {
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
static inline const u8 *word_end(const u8 *table, const u8 *p, const u8 *end) {
    if (*p == ' ' && end - p > 8) { /* what is commonest, first: a space and ASCII letters */
        u64 w;
        memcpy(&w, p + 1, 8);
        w = not_letters(w);
        if (!w) return letters(table, p + 9, end);
        const u8 *q = p + 1 + (FIRST_BIT(w) >> 3);
        if (q > p + 1) return *q < 0x80 ? q : run(table, q, end, LETTER);
    }
    int n, m, class = classify(table, p, &n);
    if (*p == '\'') {
        const u8 *q = contraction(p, end);
        if (q > p) return q;
    }
    if (class == LETTER) return letters(table, p + n, end);
    if (class == NUMBER) return p + n;
    int next = p + n < end ? classify(table, p + n, &m) : -1;
    if (class != NEWLINE && next == LETTER) return letters(table, p + n + m, end);
    if (class == OTHER || (*p == ' ' && next == OTHER)) {
        p = run(table, p + n, end, OTHER);
        while (p < end && (*p == '\r' || *p == '\n')) p++;
        return p;
    }
    const u8 *start = p, *last = p, *newline = NULL; /* white space: its last character, and what follows its last newline */
    while (p < end && (class = classify(table, p, &n)) >= SPACE) {
        last = p;
        p += n;
        if (class == NEWLINE) newline = p;
    }
    if (newline) return newline;
    /* The last white space belongs to what follows, unless it is all there is: then it is a word by itself. */
    return p == end || last == start ? p : last;
}

/* ------------------------------------------------------------------------------------------------ many words at once */

#define WINDOW 64 /* bytes that are asked the same thing at once; the answer has a bit for each */

#if defined(__SSE2__)
typedef struct { __m128i at[4]; } Bytes;

static inline u64 bits_of(const __m128i *yes) {
    u64 bits = 0;
    for (int i = 0; i < 4; i++) bits |= (u64)(u32)_mm_movemask_epi8(yes[i]) << 16 * i;
    return bits;
}

/* Which bytes, once the bits of `set` are set in them, are from `first` to `last`, all of them ASCII. */
static inline u64 within(Bytes b, char set, char first, char last) {
    for (int i = 0; i < 4; i++) {
        __m128i x = _mm_or_si128(b.at[i], _mm_set1_epi8(set));
        b.at[i] = _mm_andnot_si128(_mm_cmpgt_epi8(x, _mm_set1_epi8(last)), _mm_cmpgt_epi8(x, _mm_set1_epi8((char)(first - 1))));
    }
    return bits_of(b.at);
}

static inline u64 equal(Bytes b, char to) {
    for (int i = 0; i < 4; i++) b.at[i] = _mm_cmpeq_epi8(b.at[i], _mm_set1_epi8(to));
    return bits_of(b.at);
}
#else
typedef struct { u64 at[8]; } Bytes;

static inline u64 within(Bytes b, char set, char first, char last) {
    u64 bits = 0;
    for (int i = 0; i < 8; i++) {
        u64 low = (b.at[i] & EACH_BYTE * 0x7F) | EACH_BYTE * (u64)set;
        u64 yes = (low + EACH_BYTE * (u64)(0x80 - first)) & ~(low + EACH_BYTE * (u64)(0x7F - last)) & ~b.at[i];
        bits |= ((yes >> 7 & EACH_BYTE) * 0x0102040810204080ull >> 56) << 8 * i;
    }
    return bits;
}

static inline u64 equal(Bytes b, char to) { return within(b, 0, to, to); }
#endif

/* Where words begin behind the one at p: bits 1 to 63, as far as the 64 bytes at p, or those until the end, decide it. Each
 * kind of beginning is what the alternatives of PATTERN come to. A bit added to the lowest of a run of ones clears the run and sets
 * the bit behind it: so one addition finds the ends of all runs. */
static inline u64 starts(const u8 *p, const u8 *end) {
    Bytes b;
    if (end - p >= WINDOW) {
        memcpy(&b, p, sizeof b);
    } else { /* zeros are among those of which nothing is known here */
        memset(&b, 0, sizeof b);
        memcpy(&b, p, (size_t)(end - p));
    }
    u64 letter = within(b, 0x20, 'a', 'z'), number = within(b, 0, '0', '9');
    u64 line = equal(b, '\n') | equal(b, '\r'), space = equal(b, ' '), white = space | equal(b, '\t');
    u64 known = within(b, 0, ' ', '~') | white | line; /* what the rest is the table knows */
    known &= ~(known + 1);                             /* up to the first of these */
    white &= known;
    u64 solid = known & ~white & ~line, other = solid & ~letter & ~number;
    if (!solid) return 0;
    u64 alone = other & ~((other | space) << 1); /* the first of others, with no space before: it may precede letters */
    line &= line + (line & other << 1);          /* those behind others belong to them */
    u64 blank = white | line, indent = white & line << 1;
    u64 goes_on = (white + indent) & ~white & line; /* white space behind a line's end, before another one: no word begins */
    if (goes_on) known &= (goes_on & -goes_on) - 1;
    indent &= (2ull << LAST_BIT(known & ~white)) - 1; /* nor where its end isn't known */
    u64 found = number | alone | indent | (blank & ~(blank << 1)) | (white & solid >> 1) | (letter & ~((letter | white | alone) << 1));
    for (u64 quotes = alone & letter >> 1 & equal(b, '\''); quotes; quotes &= quotes - 1) {
        long behind = contraction(p + FIRST_BIT(quotes), end) - p;
        if (behind < WINDOW) found |= 1ull << behind;
    }
    return found & known & ~1ull;
}

#define BATCH 64 /* words that are cut off before the first is looked up: by then its place has come from memory */

/* The ends of the words from p on: of at least BATCH unless the text has less, and of less than BATCH + WINDOW. */
static inline int cut(const u8 *table, const u8 *p, const u8 *end, const u8 **ends) {
    int n = 0;
    while (n < BATCH && p < end) {
        u64 next = 0, found = 0;
        if (end - p >= 16) {
            memcpy(&next, p, sizeof next);
            if (!(next & EACH_BYTE * 0x80)) found = starts(p, end);
        }
        if (found) {
            for (; found; found &= found - 1) ends[n++] = p + FIRST_BIT(found);
            p = ends[n - 1];
        } else {
            ends[n++] = p = word_end(table, p, end);
        }
    }
    return n;
}
