/* A body of code, BODY, once for each instruction set that this processor family knows, each with products.h before it; and
 * at the end which of them this machine has. Python.h comes before.
 * GCC and clang say differently that the functions of a region may use a set. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* wide vectors never cross a function that isn't inlined or of the same set */
#endif

#define UP(x, n) (((x) + (n) - 1) / (n) * (n))
#define PANEL 64 /* columns of a packed matrix that lie together */
#define DEEP 512 /* the longest sum of a product that is not cut */
#define PARTS(k) (((k) + DEEP - 1) / DEEP)
#define CUT(k) UP(UP(k, PARTS(k)) / PARTS(k), 32) /* how long its parts are */
/* The left side of a product, in tiles of MR rows: A(i, k) = p[i / MR * tile + i % MR * rs + k * cs], and the right one, in
 * panels. Integers have a scale for each row of A, of each part, and for each column of B. */
typedef struct { const float *p; long tile, rs, cs; const float *scale; } Left;
typedef struct { const float *p; long panel; const float *scale; } Right;

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")
#endif
#define ISA(name) name##_int16
#define VL 16
#define MR 6
#define NV 4
#define INTEGERS 1
#include "products.h"
#include BODY
#include "done.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
#endif
#define ISA(name) name##_avx512
#define VL 16
#define MR 6
#define NV 4
#define INTEGERS 0
#include "products.h"
#include BODY
#include "done.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define ISA(name) name##_avx2
#define VL 8
#define MR 6
#define NV 2
#define INTEGERS 0
#include "products.h"
#include BODY
#include "done.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#define ISA(name) name##_plain
#define VL 4
#if defined(__x86_64__)
#define MR 3 /* 16 registers; 32 elsewhere */
#else
#define MR 6
#endif
#define NV 4
#define INTEGERS 0
#include "products.h"
#include BODY
#include "done.h"

/* Whether this machine has the set, by its place in a list of all, the widest first. */
static int usable(int set) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (set == 0) return avx512 && __builtin_cpu_supports("avx512vnni");
    if (set == 1) return avx512;
    if (set == 2) return avx2;
#endif
    return 1;
}

static const char *const SET_NAMES[] = {
#if defined(__x86_64__)
    "int16", "avx512", "avx2",
#endif
    "plain",
};
#define SET_COUNT (int)(sizeof SET_NAMES / sizeof *SET_NAMES)

/* The place of a set that is usable here, or -1 with an exception set. */
static int set_named(const char *name) {
    for (int i = 0; i < SET_COUNT; i++)
        if (!strcmp(SET_NAMES[i], name) && usable(i)) return i;
    PyErr_Format(PyExc_ValueError, "no instruction set %s here", name);
    return -1;
}

static PyObject *sets(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < SET_COUNT; i++)
        if (usable(i)) {
            PyObject *name = PyUnicode_FromString(SET_NAMES[i]);
            if (!name || PyList_Append(list, name)) Py_CLEAR(list);
            Py_XDECREF(name);
        }
    return list;
}
