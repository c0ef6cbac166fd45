/* Matrix products, and what they need: included by sets.h once for each instruction set, with
 *     ISA(name)      the name of a function for that set
 *     VL             floats in a vector
 *     MR, NV         a tile of a product: MR rows of NV vectors are summed up in registers
 *     INTEGERS       1: products of 16-bit integers (integers.h), two of them in the place of a float; 0: of float32
 */

typedef float ISA(vec) __attribute__((vector_size(4 * VL)));
typedef int ISA(ivec) __attribute__((vector_size(4 * VL)));
#define vec ISA(vec)
#define ivec ISA(ivec)

static inline vec ISA(ld)(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static inline void ISA(st)(float *p, vec v) { memcpy(p, &v, sizeof v); }
static inline vec ISA(larger)(vec a, vec b) { ivec first = a > b; return (vec)((first & (ivec)a) | (~first & (ivec)b)); }
static inline float ISA(sum)(vec v) { float s = 0; for (int i = 0; i < VL; i++) s += v[i]; return s; }
#define ld ISA(ld)
#define st ISA(st)

/* e^x for x <= 88, by 2^n e^r with |r| <= ln 2 / 2: relative error below 2e-7. */
static inline vec ISA(exp)(vec x) {
    vec low = (vec){0} - 87.0f;
    ivec small = x < low;
    x = (vec)((~small & (ivec)x) | (small & (ivec)low));
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum's last bits are the rounded n */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec power = (ivec)shifted << 23; /* what is above the last bits falls out */
    return (vec)((ivec)p + power);
}

/* ---- products: C (M x N) = A B or C += A B; B lies in panels of 64 columns, k rows each. ---- */

#if INTEGERS
#define UNIT(k) (UP(k, 32) / 2)
#else
#define UNIT(k) (k)
#endif

/* A tile of the product; sums of integers are times their row's scale, `by`, and their column's. */
static inline __attribute__((always_inline)) void ISA(tile)(int k, const float *const *rows, long cs, const float *b, float *c,
                                                            long ldc, int m, int n, int add, const float *by, const float *scales) {
    vec acc[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
        for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};
    for (long at = 0; k-- > 0; at += cs, b += PANEL) {
        vec right[NV];
#pragma GCC unroll 16
        for (int j = 0; j < NV; j++) right[j] = ld(b + j * VL);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
#if INTEGERS
            const __m512i left = _mm512_set1_epi32(((const int *)rows[i])[at]);
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++) acc[i][j] = (vec)_mm512_dpwssd_epi32((__m512i)acc[i][j], left, (__m512i)right[j]);
#else
            float left = rows[i][at];
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++) acc[i][j] += left * right[j];
#endif
        }
    }
#if INTEGERS
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
        for (int j = 0; j < NV; j++) __asm__("" : "+v"(acc[i][j])); /* GCC 12 would write them to memory at every step */
#define SUM(i, j) (__builtin_convertvector((ivec)acc[i][j], vec) * by[i] * ld(scales + (j) * VL))
#else
#define SUM(i, j) acc[i][j]
    (void)by, (void)scales;
#endif
    if (m >= MR && n >= NV * VL) {
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++) {
                float *to = c + i * ldc + j * VL;
                st(to, add ? ld(to) + SUM(i, j) : SUM(i, j));
            }
        return;
    }
    float whole[MR * NV * VL];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) /* unrolled as well, or else the sums would not stay in registers */
#pragma GCC unroll 16
        for (int j = 0; j < NV; j++) st(whole + (i * NV + j) * VL, SUM(i, j));
    for (int i = 0; i < m && i < MR; i++)
        for (int j = 0; j < n && j < NV * VL; j++)
            c[i * ldc + j] = whole[i * NV * VL + j] + (add ? c[i * ldc + j] : 0);
}
#undef SUM

static inline __attribute__((always_inline)) void ISA(slice)(int M, int N, int K, Left a, Right b, float *c, long ldc, int add) {
    const int tiles = (M + MR - 1) / MR, lines = K * (PANEL / 16), share = (lines + tiles - 1) / tiles;
    for (int j = 0; j < N; j += PANEL, b.p += b.panel)
        for (int i = 0, ahead = 0; i < M; i += MR) {
            const float *rows[MR];
            float by[MR];
            for (int r = 0; r < MR; r++) {
                rows[r] = a.p + i / MR * a.tile + (i + r < M ? r : 0) * a.rs;
                by[r] = INTEGERS ? a.scale[i + r < M ? i + r : i] : 1;
            }
            /* The next panel, and what is added to, are asked for while there is something else to do (LOG.md). */
            if (j + PANEL < N)
                for (int l = 0; l < share && ahead < lines; l++, ahead++) __builtin_prefetch(b.p + b.panel + ahead * 16, 0, 2);
            if (add)
                for (int r = 0; r < MR && i + r < M; r++)
                    for (int l = 0; l < PANEL && j + l < N; l += 16) __builtin_prefetch(c + (i + r) * ldc + j + l, 1, 3);
            for (int s = 0; s < PANEL && j + s < N; s += NV * VL)
                ISA(tile)(K, rows, a.cs, b.p + s, c + i * ldc + j + s, ldc, M - i, N - j - s, add, by, INTEGERS ? b.scale + j + s : NULL);
        }
}

/* A long sum is cut, so that what is read again for each 64 columns, and for each row of tiles, stays near. */
static __attribute__((noinline)) void ISA(product)(int M, int N, int K, Left a, Right b, float *c, long ldc, int add) {
    const int deep = CUT(K);
    for (int k = 0; k < K; k += deep, a.p += UNIT(deep) * a.cs, b.p += (long)UNIT(deep) * PANEL) {
        ISA(slice)(M, N, UNIT(K - k < deep ? K - k : deep), a, b, c, ldc, add || k);
        if (INTEGERS) a.scale += M;
    }
}

/* B (k x n) as it was packed. */
static inline Right ISA(packed)(const float *p, int k, int n) {
    const long panel = (long)UNIT(k) * PANEL;
    return (Right){p, panel, INTEGERS ? p + panel * (UP(n, PANEL) / PANEL) : NULL};
}

/* B without what comes before this row, or column, a multiple of PANEL. */
static inline Right ISA(from_row)(Right b, int row) { return (Right){b.p + (long)UNIT(row) * PANEL, b.panel, b.scale}; }
static inline Right ISA(from_column)(Right b, int column) {
    return (Right){b.p + column / PANEL * b.panel, b.panel, INTEGERS ? b.scale + column : NULL};
}

#if INTEGERS
#include "integers.h"
#else
/* A = x (rows x k), row by row. */
static inline Left ISA(left)(float *room, const float *x, long ld_, int rows, int k) {
    (void)room, (void)rows, (void)k;
    return (Left){x, MR * ld_, ld_, 1, NULL};
}

/* A = x^T of x (k x columns): A(i, k) = x[k][i]. What is larger than a core's cache is copied tile by tile first, or each
 * step of a product would meet another page of memory; for less that costs more than it saves. */
static inline Left ISA(left_turned)(float *room, const float *x, long ld_, int k, int columns) {
    if (ld_ * k <= 1 << 18) return (Left){x, MR, 1, ld_, NULL};
    const int group = 16 * MR;
    for (int first = 0; first < columns; first += group)
        for (int t = 0; t < k; t++)
            for (int i = first; i < first + group && i < columns; i += MR) {
                float *to = room + ((long)(i / MR) * k + t) * MR;
                const float *from = x + (long)t * ld_ + i;
                if (i + MR <= columns) memcpy(to, from, MR * sizeof(float));
                else memcpy(to, from, (columns - i) * sizeof(float));
            }
    return (Left){room, (long)k * MR, 1, MR, NULL};
}

/* B(k, n) = x[k][n], in panels of `whole` rows; what is missing of the last panel's columns is 0, what is of its rows is left as it is. */
static inline Right ISA(right)(float *to, const float *x, long ld_, int k, int n, int whole) {
    const Right b = ISA(packed)(to, whole, n);
    for (int j = 0; j < n; j += PANEL, to += (long)(whole - k) * PANEL)
        for (int t = 0; t < k; t++, to += PANEL) {
            int wide = n - j < PANEL ? n - j : PANEL;
            const float *from = x + t * ld_ + j;
            if (wide == PANEL)
                for (int c = 0; c < PANEL; c += VL) st(to + c, ld(from + c));
            else
                for (int c = 0; c < PANEL; c++) to[c] = c < wide ? from[c] : 0;
        }
    return b;
}

/* B(k, n) = x[n][k], in panels; sixteen k at a time, so that what is written stays near. */
static inline Right ISA(right_turned)(float *to, const float *x, long ld_, int k, int n) {
    const Right b = ISA(packed)(to, k, n);
    for (int j = 0; j < n; j += PANEL, to += (long)k * PANEL)
        for (int first = 0; first < k; first += 16)
            for (int c = 0; c < PANEL; c++) {
                const float *from = x + (long)(j + c) * ld_;
                int end = first + 16 < k ? first + 16 : k;
                for (int t = first; t < end; t++) to[t * PANEL + c] = j + c < n ? from[t] : 0;
            }
    return b;
}
#endif

static inline float ISA(largest)(const float *x, int n) {
    float top = x[0];
    int i = 0;
    if (n >= VL) {
        vec tops = ld(x);
        for (i = VL; i + VL <= n; i += VL) tops = ISA(larger)(tops, ld(x + i));
        for (int j = 0; j < VL; j++) top = tops[j] > top ? tops[j] : top;
    }
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}
