/* What encoding (native.c) and learning (learn.c) share: cutting a text into words (words.h), a word as a key, growing arrays. */

#ifndef SPROUT_NATIVE_H
#define SPROUT_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(p) __builtin_prefetch(p)
#define FIRST_BIT(x) __builtin_ctzll(x)
#define LAST_BIT(x) (63 - __builtin_clzll(x))
#else
#define PREFETCH(p) ((void)(p))
static inline int FIRST_BIT(u64 x) {
    int n = 0;
    for (; !(x & 1); x >>= 1) n++;
    return n;
}
static inline int LAST_BIT(u64 x) {
    int n = -1;
    for (; x; x >>= 1) n++;
    return n;
}
#endif

#include "words.h"

/* ------------------------------------------------------------------------------------------------ a word as a key */

/* A word of up to 15 bytes is its own key: 15 bytes, zeros behind the last, and its length in the highest byte. Of a longer
 * one the key has a hash and the length, so that whoever finds an equal key must compare the bytes, too. */
typedef struct { u64 lo, hi; } Key;

#define INLINE_WORD 15

static inline u64 mix(u64 x) {
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15ull;
    return x ^ x >> 29;
}

static inline u64 key_hash(Key k) { return mix(k.lo * 0xD6E8FEB86659FD93ull ^ k.hi * 0xA0761D6478BD642Full); }

static inline Key key_of(const u8 *p, size_t n, const u8 *end) {
    Key k;
    if (n <= INLINE_WORD) {
        if (end - p >= 16) {
            static const u8 kept[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
            Key some; /* a branch by the word's length would often be mispredicted */
            memcpy(&k, p, 16);
            memcpy(&some, kept + 16 - n, 16);
            k.lo &= some.lo;
            k.hi &= some.hi;
        } else {
            k.lo = k.hi = 0;
            memcpy(&k, p, n);
        }
        k.hi |= (u64)n << 56;
        return k;
    }
    u64 w, h = n;
    for (const u8 *q = p, *last = p + n - 8; q < last; q += 8) {
        memcpy(&w, q, 8);
        h = mix(h ^ w) * 0xE7037ED1A0B428DBull;
    }
    memcpy(&w, p + n - 8, 8);
    k.lo = mix(h ^ w);
    k.hi = (u64)n | 16ull << 56;
    return k;
}

/* ------------------------------------------------------------------------------------------------ growing arrays */

#define ARRAY(type) struct { type *at; size_t n, room; }

static inline int grow_to(void **at, size_t *room, size_t wanted, size_t size) {
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

/* ------------------------------------------------------------------------------------------------ texts from Python */

typedef struct { const u8 *at; size_t n; } Text;

/* The texts of a str or a list of str, as UTF-8 that lives as long as `held`, a new reference; NULL with an error set. The
 * caller frees *texts and lets `held` go. A text that is no UTF-8 (lone surrogates) is a UnicodeEncodeError. */
static inline PyObject *texts_of(PyObject *given, Text **texts, Py_ssize_t *count) {
    PyObject *held = PyUnicode_Check(given) ? PyTuple_Pack(1, given) : PyList_Check(given) ? PyList_AsTuple(given) : NULL;
    if (!held) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "expected a str or a list of str");
        return NULL;
    }
    *count = PyTuple_GET_SIZE(held);
    *texts = malloc(((size_t)*count + 1) * sizeof(Text));
    if (!*texts) PyErr_NoMemory();
    for (Py_ssize_t i = 0; *texts && i < *count; i++) {
        PyObject *text = PyTuple_GET_ITEM(held, i);
        Py_ssize_t n = 0;
        const char *at = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &n) : NULL;
        if (!at || (u64)n >= UINT32_MAX) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "expected a str of less than 4 GB");
            free(*texts);
            *texts = NULL;
            break;
        }
        (*texts)[i] = (Text){(const u8 *)at, (size_t)n};
    }
    if (!*texts) Py_CLEAR(held);
    return held;
}

extern PyType_Spec trainer_spec; /* of learn.c */

#endif
