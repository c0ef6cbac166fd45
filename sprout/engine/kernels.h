/* The sums of a decoding step, once for each kind of vector: native.c includes this file with W (floats in a vector), NAME(x)
 * (what a function is called), TARGET (which instructions it may use), BLOCKS (how many of a few rows and panels at once, so
 * that their sums fit into the registers), MANY (rows from which on they are many), ROWS (how many of these at once, at most),
 * CASES (all numbers of rows down to half of that), EVENS (0, 2, 4, ... 2W - 2), ODDS, and WIDTHS (the heads that attention is
 * written for: vectors of each, tokens and queries at once); and INTEGERS, if products are to be those of integers.h, and keys
 * and values floats of 16 bits.
 *
 * A matrix (N, C) lies in panels of 32 rows: for each of the C channels its 32 numbers side by side, so that a product needs
 * no sums across a vector, and every weight is read once, in order. However many rows there are at once, each of a row's
 * numbers is summed over the channels in the same order: a reply is the same, to the last bit, alone and among others.
 *
 * Letters: B rows, U units of a sum (a channel, or two as integers), S tokens seen, D head size, R rows and P panels at once. */

#define VECTOR NAME(vector)
#define INTS NAME(ints)
#define LOOSE NAME(loose)
#define HALF NAME(half)
#define DOUBLES NAME(doubles)
#define NV (PANEL / W) /* vectors that make up one channel of a panel */

typedef float VECTOR __attribute__((vector_size(4 * W)));
typedef int32_t INTS __attribute__((vector_size(4 * W)));
typedef float LOOSE __attribute__((vector_size(4 * W), aligned(4), may_alias)); /* wherever it lies */
typedef float HALF __attribute__((vector_size(2 * W)));
typedef double DOUBLES __attribute__((vector_size(4 * W)));

#define LOAD(p) (*(const LOOSE *)(p))
#define STORE(p, v) (*(LOOSE *)(p) = (v))

/* e^x within 2 units in the last place; 0 below -87, and above 88 what it is there. NaN stays NaN. */
static INLINE TARGET VECTOR NAME(exponential)(VECTOR x) {
    VECTOR zero = {0}, high = zero + 88.0f, low = zero - 87.0f, magic = zero + 12582912.0f; /* 1.5 x 2^23 */
    INTS above = x > high, below = x < low; /* both are false for NaN */
    x = (VECTOR)(((INTS)high & above) | ((INTS)low & below) | ((INTS)x & ~(above | below)));
    VECTOR shifted = x * 1.44269504f + magic, n = shifted - magic; /* adding it rounds to a whole number */
    VECTOR r = x - n * 0.693359375f + n * 2.12194440e-4f;          /* x - n ln 2, which is taken in two parts */
    VECTOR p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return (VECTOR)(((INTS)p + (((INTS)shifted - (INTS)magic) << 23)) & ~below); /* times 2^n */
}

static INLINE TARGET float NAME(total)(VECTOR v) {
#if W == 16
    return _mm512_reduce_add_ps((__m512)v);
#else
    float sum = 0;
    for (int i = 0; i < W; i++) sum += v[i];
    return sum;
#endif
}

/* 1 / root mean square of x (n,). */
static TARGET float NAME(inverse_size)(const float *x, long n, float eps) {
    VECTOR a = {0}, b = {0};
    long i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        VECTOR u = LOAD(x + i), v = LOAD(x + i + W);
        a += u * u;
        b += v * v;
    }
    float sum = NAME(total)(a + b);
    for (; i < n; i++) sum += x[i] * x[i];
    return 1 / sqrtf(sum / (float)n + eps);
}

/* ---------------------------------------------------------------------------------------------- products */

#ifdef INTEGERS
#include "integers.h"
#else
#define ADD(sum, weight, x) ((sum) + (weight) * (x))
#define SETTLE(sum)
#define MEANT(sums, scales) LOAD(sums)
#define KEPT float /* a number of a key or value in the cache */
#define FETCH(p) LOAD(p)
#define ONE(x) (x)
#define PUT(p, v) STORE(p, v)
#define PUT_ONE(p, x) (*(p) = (x))
#endif

#define FEW 8 /* rows times panels, at most */

/* R rows of x (R, stride) times P panels of `size` numbers: tile (P, R, 32). R, P and fetch are constants wherever this is used.
 * With `fetch`, weights are asked for before they are needed. */
static INLINE TARGET void NAME(tile)(const int R, const int P, const int fetch, const float *x, long stride, const float *panel,
                                     long size, long U, float *tile) {
    VECTOR sum[FEW][NV]; /* of known size, and so in registers */
    UNROLL for (int i = 0; i < P * R; i++)
        UNROLL for (int v = 0; v < NV; v++) sum[i][v] = (VECTOR){0};
    for (long u = 0; u < U; u++) {
        UNROLL for (int p = 0; p < P; p++) {
            VECTOR weight[NV];
            if (fetch) {
                __builtin_prefetch(panel + p * size + u * PANEL + AHEAD);
                __builtin_prefetch(panel + p * size + u * PANEL + AHEAD + 16);
            }
            UNROLL for (int v = 0; v < NV; v++) weight[v] = LOAD(panel + p * size + u * PANEL + v * W);
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int v = 0; v < NV; v++) sum[p * R + r][v] = ADD(sum[p * R + r][v], weight[v], x[r * stride + u]);
        }
    }
    UNROLL for (int i = 0; i < P * R; i++)
        UNROLL for (int v = 0; v < NV; v++) SETTLE(sum[i][v]);
    UNROLL for (int i = 0; i < P * R; i++)
        UNROLL for (int v = 0; v < NV; v++) STORE(tile + i * PANEL + v * W, sum[i][v]);
}

/* What becomes of a tile of R rows and m's panel p: a row's numbers, times its scale, are written to out (R, m->out), or ADDED to
 * what is there; or, GATED, a panel is 16 gates and 16 ups, and silu(gate) * up is written. */
static TARGET void NAME(place)(const Matrix *m, long p, int how, long R, const float *tile, const float *scale, float *out) {
    long each = how == GATED ? PANEL / 2 : PANEL, n = m->out - p * each < each ? m->out - p * each : each; /* the last may be cut off */
    const float *scales = m->panels + p * m->size + m->units * PANEL;
    (void)scales;
    out += p * each;
    for (long r = 0; r < R; r++, tile += PANEL, out += m->out) {
        float s = scale[r], rest[PANEL], *to = n == each ? out : rest;
        if (how == ADDED && n < each) memcpy(rest, out, (size_t)n * sizeof(float));
        for (int i = 0; i < each; i += W) {
            VECTOR y = MEANT(tile + i, scales + i) * s;
            if (how == GATED) y = y / (NAME(exponential)(-y) + 1.0f) * (MEANT(tile + i + PANEL / 2, scales + i + PANEL / 2) * s);
            if (how == ADDED) y += LOAD(to + i);
            STORE(to + i, y);
        }
        if (n < each) memcpy(out, rest, (size_t)n * sizeof(float));
    }
}

#define TILE(R, P, fetch) NAME(tile)(R, P, fetch, x + b * stride, stride, m->panels + p * m->size, m->size, m->units, tile)
#define BLOCK(R, P) \
    if (B - b >= R) { \
        for (long p = at, many; p < end; p += many) { \
            many = end - p >= P ? P : 1; \
            if (many == P && m->far && !b && R > 2) TILE(R, P, 1); \
            else if (many == P) TILE(R, P, 0); \
            else TILE(R, 1, 0); \
            for (long i = 0; i < many; i++) \
                NAME(place)(m, p + i, how, R, tile + i * R * PANEL, scale + b, out + b * m->out); \
        } \
        b += R; \
        continue; \
    }

/* As `tile`, for one panel of many rows: sums (R, 32) start at 0, or go on from what is there. Rows are read by threes, which
 * takes few pointers. Meanwhile what lies `ahead` is asked for, `pace` numbers on with each unit, and `also`, 16 numbers on. */
static INLINE TARGET void NAME(block)(const int R, const float *x, long stride, const float *panel, long U, int go_on,
                                      const float *ahead, long pace, const float *also, float *sums) {
    const int threes = (R + 2) / 3;
    VECTOR sum[ROWS][NV];
    const float *row[(ROWS + 2) / 3];
    UNROLL for (int i = 0; i < threes; i++) row[i] = x + 3 * i * stride;
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < NV; v++) {
            sum[r][v] = (VECTOR){0};
            if (go_on) sum[r][v] = LOAD(sums + r * PANEL + v * W);
        }
    for (long u = 0; u < U; u++, panel += PANEL, ahead += pace, also += 16) {
        VECTOR weight[NV];
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(also, 0, 2);
        UNROLL for (int v = 0; v < NV; v++) weight[v] = LOAD(panel + v * W);
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < NV; v++) sum[r][v] = ADD(sum[r][v], weight[v], row[r / 3][r % 3 * stride]);
        UNROLL for (int i = 0; i < threes; i++) row[i]++;
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < NV; v++) SETTLE(sum[r][v]);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < NV; v++) STORE(sums + r * PANEL + v * W, sum[r][v]);
}

#define GROUP (72 / ROWS * ROWS) /* rows whose sums stay near */
#define CASE(R) \
    case R: NAME(block)(R, from, stride, panel, deep, u > 0, ahead, pace, also, sums + b * PANEL); break;

/* As `product`, for at least MANY rows of x (B, stride), in groups whose sums stay near. Of each panel DEEP units at a time,
 * which stay near while a group passes in blocks. Groups, and blocks, are of about as many rows each. */
static TARGET void NAME(product_of_many)(const Matrix *m, long first, long last, int how, long B, const float *x, long stride,
                                         const float *scale, float *out, Errands *errands) {
    float sums[GROUP * PANEL] __attribute__((aligned(64)));
    long groups = (B + GROUP - 1) / GROUP, slices = (m->units + DEEP - 1) / DEEP, slice = (m->units + slices - 1) / slices;
    for (long g = 0, rows; g < groups; g++, B -= rows, x += rows * stride, scale += rows, out += rows * m->out) {
        rows = B / (groups - g);
        long blocks = (rows + ROWS - 1) / ROWS, pace = (PANEL + blocks - 1) / blocks;
        for (long p = first; p < last; p++) {
            for (long u = 0, deep; u < m->units; u += deep) {
                const float *panel = m->panels + p * m->size + u * PANEL;
                deep = m->units - u < slice ? m->units - u : slice;
                for (long i = 0; i < blocks; i++) {
                    long b = rows * i / blocks;
                    const float *from = x + b * stride + u, *ahead = panel + deep * (PANEL + i * pace);
                    const float *also = errands->done < errands->n ? errands->at[errands->done++] : panel;
                    switch (rows * (i + 1) / blocks - b) { CASES }
                }
            }
            NAME(place)(m, p, how, rows, sums, scale, out);
        }
    }
}

/* x (B, stride) times the panels first to last - 1 of m, and times `scale` (B,), to out (B, m->out). Of few rows four panels at a
 * time, which are still near when the next rows come. */
static TARGET void NAME(product)(const Matrix *m, long first, long last, int how, long B, const float *x, long stride,
                                 const float *scale, float *out, Errands *errands) {
    if (B >= MANY) {
        NAME(product_of_many)(m, first, last, how, B, x, stride, scale, out, errands);
        return;
    }
    float tile[FEW * PANEL] __attribute__((aligned(64)));
    for (long at = first; at < last; at += 4) {
        long end = last - at < 4 ? last : at + 4;
        for (long b = 0; b < B;) {
            BLOCKS
        }
    }
}

/* ---------------------------------------------------------------------------------------------- attention */

/* Norm x (D,), turn it by its position's angle, times `gain`; all in place. */
static INLINE TARGET void NAME(turn)(float *x, long D, const float *cos, const float *sin, float eps, float gain) {
    float scale = NAME(inverse_size)(x, D, eps) * gain, *y = x + D / 2;
    long i = 0;
    cos += D / 2; /* both halves are the same */
    sin += D / 2;
    for (; i + W <= D / 2; i += W) {
        VECTOR left = LOAD(x + i) * scale, right = LOAD(y + i) * scale;
        STORE(x + i, left * LOAD(cos + i) - right * LOAD(sin + i));
        STORE(y + i, right * LOAD(cos + i) + left * LOAD(sin + i));
    }
    for (; i < D / 2; i++) {
        float left = x[i] * scale, right = y[i] * scale;
        x[i] = left * cos[i] - right * sin[i];
        y[i] = right * cos[i] + left * sin[i];
    }
}

/* Scores (Q, stride), of which S each, of q (Q, D) at keys (S, D), D = N W, of which `room` can be read. W / Q keys at a time: pairs
 * are added until each sum is one lane. Meanwhile `soon`, as much as the keys, is asked for. */
static INLINE TARGET void NAME(scores)(const int N, const int Q, const float *q, const KEPT *keys, long S, long room,
                                       const KEPT *soon, float *scores, long stride) {
    VECTOR mine[Q][N];
    UNROLL for (int g = 0; g < Q; g++)
        UNROLL for (int d = 0; d < N; d++) mine[g][d] = LOAD(q + (g * N + d) * W);
    long s = 0;
    for (; s < S && s + W / Q <= room; s += W / Q) { /* what stands behind S says nothing */
        VECTOR part[W];
        UNROLL for (long i = 0; i < N * W * W / Q; i += 64 / (long)sizeof(KEPT)) __builtin_prefetch(soon + s * N * W + i, 0, 2);
        UNROLL for (int i = 0; i < W / Q; i++)
            UNROLL for (int d = 0; d < N; d++) {
                VECTOR key = FETCH(keys + ((s + i) * N + d) * W);
                UNROLL for (int g = 0; g < Q; g++) part[g * W / Q + i] = d ? part[g * W / Q + i] + mine[g][d] * key : mine[g][d] * key;
            }
        UNROLL for (int left = W / 2; left; left /= 2)
            UNROLL for (int i = 0; i < left; i++)
                part[i] = __builtin_shufflevector(part[2 * i], part[2 * i + 1], EVENS) +
                          __builtin_shufflevector(part[2 * i], part[2 * i + 1], ODDS);
        UNROLL for (int g = 0; g < Q; g++) memcpy(scores + g * stride + s, (float *)part + g * W / Q, W / Q * sizeof(float));
    }
    for (; s < S; s++)
        UNROLL for (int g = 0; g < Q; g++) {
            VECTOR sum = {0};
            UNROLL for (int d = 0; d < N; d++) sum += mine[g][d] * FETCH(keys + (s * N + d) * W);
            scores[g * stride + s] = NAME(total)(sum);
        }
}

/* out (Q, D) = weights (Q, stride), of which S each, times values (S, D), times `scale` (Q,), D = N W. U sums run beside each other. */
static INLINE TARGET void NAME(mix)(const int N, const int U, const int Q, const float *weights, long stride, const KEPT *values,
                                    long S, const float *scale, float *out) {
    VECTOR sum[Q][U][N];
    UNROLL for (int i = 0; i < Q * U; i++)
        UNROLL for (int d = 0; d < N; d++) sum[i / U][i % U][d] = (VECTOR){0};
    long s = 0;
    for (; s + U <= S; s += U)
        UNROLL for (int u = 0; u < U; u++)
            UNROLL for (int d = 0; d < N; d++) {
                VECTOR value = FETCH(values + ((s + u) * N + d) * W);
                UNROLL for (int g = 0; g < Q; g++) sum[g][u][d] += weights[g * stride + s + u] * value;
            }
    for (; s < S; s++)
        UNROLL for (int g = 0; g < Q; g++)
            UNROLL for (int d = 0; d < N; d++) sum[g][0][d] += weights[g * stride + s] * FETCH(values + (s * N + d) * W);
    UNROLL for (int g = 0; g < Q; g++)
        UNROLL for (int d = 0; d < N; d++) {
            UNROLL for (int u = 1; u < U; u++) sum[g][0][d] += sum[g][u][d];
            STORE(out + (g * N + d) * W, sum[g][0][d] * scale[g]);
        }
}

/* The greatest of x (n,), n at least 1. */
static TARGET float NAME(most)(const float *x, long n) {
    float most = x[0];
    long i = 0;
    if (n >= W) {
        VECTOR best = LOAD(x);
        for (i = W; i + W <= n; i += W) {
            VECTOR v = LOAD(x + i);
            INTS more = v > best;
            best = (VECTOR)(((INTS)v & more) | ((INTS)best & ~more));
        }
        for (int j = 0; j < W; j++) most = best[j] > most ? best[j] : most;
    }
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* out (n,) = e^((x - most) / heat). There is room for a vector more. */
static TARGET void NAME(exponentials)(const float *x, long n, float most, float heat, float *out) {
    long i = 0;
    if (heat == 1) /* a division takes as long as the rest */
        for (; i + W <= n; i += W) STORE(out + i, NAME(exponential)(LOAD(x + i) - most));
    else
        for (; i + W <= n; i += W) STORE(out + i, NAME(exponential)((LOAD(x + i) - most) / heat));
    if (i == n) return;
    float rest[W];
    for (int j = 0; j < W; j++) rest[j] = i + j < n ? x[i + j] : -INFINITY;
    STORE(out + i, NAME(exponential)((LOAD(rest) - most) / heat));
}

/* out (n,) = scores (n,), and minus infinity where the mask (n,) is not 0. The place of the greatest, the first of equal ones. */
static TARGET long NAME(allow)(const float *scores, const uint8_t *mask, long n, float *out) {
    VECTOR best = (VECTOR){0} - INFINITY;
    INTS here = {0}, at;
    for (int j = 0; j < W; j++) here[j] = j;
    long i = 0, first = 0;
    for (at = here; i + W <= n; i += W, here += W) {
        VECTOR v = LOAD(scores + i);
        int32_t any = 0, four;
        for (int j = 0; j < W; j += 4) memcpy(&four, mask + i + j, 4), any |= four;
        for (int j = 0; any && j < W; j++)
            if (mask[i + j]) v[j] = -INFINITY; /* there are few, and most vectors have none */
        STORE(out + i, v);
        INTS more = v > best;
        best = (VECTOR)(((INTS)v & more) | ((INTS)best & ~more));
        at = (here & more) | (at & ~more);
    }
    float most = best[0];
    if (i) first = at[0];
    for (int j = 1; i && j < W; j++)
        if (best[j] > most || (best[j] == most && at[j] < first)) most = best[j], first = at[j];
    for (; i < n; i++) {
        out[i] = mask[i] ? -INFINITY : scores[i];
        if (out[i] > most) most = out[i], first = i;
    }
    return first;
}

/* The sum of x (n,), as several sums beside each other. */
static TARGET double NAME(sum)(const float *x, long n) {
    DOUBLES part[4] = {{0}, {0}, {0}, {0}};
    double sum = 0;
    long i = 0;
    for (; i + 2 * W <= n; i += 2 * W)
        UNROLL for (int j = 0; j < 4; j++) {
            HALF half;
            memcpy(&half, x + i + j * (W / 2), sizeof half);
            part[j] += __builtin_convertvector(half, DOUBLES);
        }
    for (; i < n; i++) sum += x[i];
    part[0] = (part[0] + part[1]) + (part[2] + part[3]);
    for (int j = 0; j < W / 2; j++) sum += part[0][j];
    return sum;
}

/* Softmax of scores (S,), but for the division: e^(score - greatest) in its place; their sum. There is room for W more. */
static INLINE TARGET float NAME(soften)(float *scores, long S) {
    VECTOR sum = {0};
    float most = NAME(most)(scores, S);
    for (long i = S; i % W; i++) scores[i] = -INFINITY;
    for (long s = 0; s < S; s += W) {
        VECTOR e = NAME(exponential)(LOAD(scores + s) - most);
        sum += e;
        STORE(scores + s, e);
    }
    return NAME(total)(sum);
}

static INLINE TARGET void NAME(put)(KEPT *to, const float *x, long D) {
    long d = 0;
    for (; d + W <= D; d += W) PUT(to + d, LOAD(x + d));
    for (; d < D; d++) PUT_ONE(to + d, x[d]);
}

/* A new key (D,), normed and turned, and its value to their places in the cache, `place` of keys and values (S, D). */
static TARGET void NAME(keep)(float *key, const float *value, long D, void *keys, void *values, long place, const float *cos,
                              const float *sin, float eps) {
    NAME(turn)(key, D, cos, sin, eps, 1);
    NAME(put)((KEPT *)keys + place * D, key, D);
    NAME(put)((KEPT *)values + place * D, value, D);
}

/* The queries (group, D) that share a key/value head, normed and turned, look at S of the keys and values (room, D): out (group, D). */
static TARGET void NAME(attend)(float *queries, long group, long D, const void *all_keys, const void *all_values, long S, long room,
                                const float *cos, const float *sin, float eps, float gain, float *scores, float *out) {
    const KEPT *keys = all_keys, *values = all_values;
    long stride = (S + 2 * W - 1) / W * W;
    for (long g = 0; g < group; g++) NAME(turn)(queries + g * D, D, cos, sin, eps, gain);
    for (long g = 0, many; g < group; g += many, queries += many * D, out += many * D) {
        float scale[2];
#define WIDTH(N, U, Q) \
    if (D == N * W && group - g >= Q) { \
        many = Q; \
        NAME(scores)(N, Q, queries, keys, S, room, values, scores, stride); \
        for (int i = 0; i < Q; i++) scale[i] = 1 / NAME(soften)(scores + i * stride, S); \
        NAME(mix)(N, U, Q, scores, stride, values, S, scale, out); \
        continue; \
    }
        WIDTHS /* head sizes 16, 32, 64, 128 of 16 floats */
#undef WIDTH
        many = 1;
        for (long s = 0; s < S; s++) { /* any other head size */
            scores[s] = 0;
            for (long d = 0; d < D; d++) scores[s] += queries[d] * ONE(keys[s * D + d]);
        }
        *scale = 1 / NAME(soften)(scores, S);
        memset(out, 0, (size_t)D * sizeof(float));
        for (long s = 0; s < S; s++)
            for (long d = 0; d < D; d++) out[d] += scores[s] * *scale * ONE(values[s * D + d]);
    }
}

#undef VECTOR
#undef INTS
#undef LOOSE
#undef HALF
#undef DOUBLES
#undef NV
#undef LOAD
#undef STORE
#undef TILE
#undef BLOCK
#undef CASE
#undef FEW
#undef GROUP
#undef ADD
#undef SETTLE
#undef MEANT
#undef KEPT
#undef FETCH
#undef ONE
#undef PUT
#undef PUT_ONE
#undef LONGEST
