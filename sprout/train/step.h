/* The training step of one row of tokens, forwards and backwards: read native.c first. This file is included once for
 * each instruction set, with
 *     ISA(name)      the name of a function for that set
 *     VL             floats in a vector
 *     MR, NV         a tile of a product: MR rows of NV vectors are summed up in registers
 *     PAIRS          1: products of bfloat16 pairs, summed in float32; 0: of float32
 *
 * Letters: T tokens of the row, C channels, H heads, K key/value heads, D head size, J = (H + 2K) D, F hidden, V
 * vocabulary, L layers. All of a row's numbers stay with one thread, and as near to its core as they fit.
 */

typedef float ISA(vec) __attribute__((vector_size(4 * VL)));
typedef int ISA(ivec) __attribute__((vector_size(4 * VL)));
#define vec ISA(vec)
#define ivec ISA(ivec)

static inline vec ISA(ld)(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static inline void ISA(st)(float *p, vec v) { memcpy(p, &v, sizeof v); }
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

/* ---- products: C (M x N) = A B or C += A B. A(i, k) = a[i rs + k cs]; B lies in panels of 64 columns, k rows each. ---- */

#if PAIRS
#define UNIT(k) (((k) + 1) / 2)
#else
#define UNIT(k) (k)
#endif

static inline __attribute__((always_inline)) void ISA(tile)(int k, const float *const *rows, long cs, const float *b,
                                                            float *c, long ldc, int m, int n, int add) {
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
#if PAIRS
            __m512bh left = (__m512bh)_mm512_set1_epi32(((const int *)rows[i])[at]);
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++)
                acc[i][j] = (vec)_mm512_dpbf16_ps((__m512)acc[i][j], left, (__m512bh)right[j]);
#else
            float left = rows[i][at];
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++) acc[i][j] += left * right[j];
#endif
        }
    }
    if (m >= MR && n >= NV * VL) {
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
            for (int j = 0; j < NV; j++) {
                float *to = c + i * ldc + j * VL;
                st(to, add ? ld(to) + acc[i][j] : acc[i][j]);
            }
        return;
    }
    float whole[MR * NV * VL];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NV; j++) st(whole + (i * NV + j) * VL, acc[i][j]);
    for (int i = 0; i < m && i < MR; i++)
        for (int j = 0; j < n && j < NV * VL; j++)
            c[i * ldc + j] = whole[i * NV * VL + j] + (add ? c[i * ldc + j] : 0);
}

static void ISA(product)(int M, int N, int K, Left a, const float *b, long panel, float *c, long ldc, int add) {
    for (int j = 0; j < N; j += PANEL, b += panel)
        for (int i = 0; i < M; i += MR) {
            const float *rows[MR];
            for (int r = 0; r < MR; r++) rows[r] = a.p + (i + r < M ? i + r : i) * a.rs;
            for (int s = 0; s < PANEL && j + s < N; s += NV * VL)
                ISA(tile)(UNIT(K), rows, a.cs, b + s, c + i * ldc + j + s, ldc, M - i, N - j - s, add);
        }
}

#if PAIRS
static inline int ISA(pair)(float first, float second) {
    return (int)(_mm_cvtsi128_si32((__m128i)_mm_cvtneps_pbh(_mm_set_ps(0, 0, second, first))));
}
#endif

/* A = x (rows x k), row by row. */
static Left ISA(left)(float *room, const float *x, long ld_, int rows, int k) {
#if PAIRS
    int *to = (int *)room;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < k; j += 16) { /* k is a multiple of 16 */
            __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i * ld_ + j));
            memcpy(to + ((long)i * k + j) / 2, &half, 32);
        }
    return (Left){room, k / 2, 1};
#else
    (void)room, (void)rows, (void)k;
    return (Left){x, ld_, 1};
#endif
}

/* A = x^T of x (k x columns): A(i, k) = x[k][i]. */
static Left ISA(left_turned)(float *room, const float *x, long ld_, int k, int columns) {
#if PAIRS
    int *to = (int *)room;
    for (int t = 0; t < k; t += 2)
        for (int i = 0; i < columns; i++)
            to[(long)(t / 2) * columns + i] = ISA(pair)(x[t * ld_ + i], t + 1 < k ? x[(t + 1) * ld_ + i] : 0);
    return (Left){room, 1, columns};
#else
    (void)room, (void)k, (void)columns;
    return (Left){x, 1, ld_};
#endif
}

/* B(k, n) = x[k][n], in panels; what is missing of the last panel is 0. */
static void ISA(right)(float *to, const float *x, long ld_, int k, int n) {
    for (int j = 0; j < n; j += PANEL)
        for (int t = 0; t < k; t += PAIRS + 1, to += PANEL) {
            int wide = n - j < PANEL ? n - j : PANEL;
            const float *from = x + t * ld_ + j;
#if PAIRS
            for (int c = 0; c < PANEL; c++)
                ((int *)to)[c] = c < wide ? ISA(pair)(from[c], t + 1 < k ? from[ld_ + c] : 0) : 0;
#else
            if (wide == PANEL)
                for (int c = 0; c < PANEL; c += VL) st(to + c, ld(from + c));
            else
                for (int c = 0; c < PANEL; c++) to[c] = c < wide ? from[c] : 0;
#endif
        }
}

/* B(k, n) = x[n][k], in panels. */
static void ISA(right_turned)(float *to, const float *x, long ld_, int k, int n) {
    for (int j = 0; j < n; j += PANEL, to += (long)UNIT(k) * PANEL)
        for (int c = 0; c < PANEL; c++) {
            const float *from = x + (long)(j + c) * ld_;
            if (j + c >= n)
                for (int t = 0; t < UNIT(k); t++) to[t * PANEL + c] = 0;
            else
                for (int t = 0; t < UNIT(k); t++)
#if PAIRS
                    ((int *)to)[t * PANEL + c] = ISA(pair)(from[2 * t], 2 * t + 1 < k ? from[2 * t + 1] : 0);
#else
                    to[t * PANEL + c] = from[t];
#endif
        }
}

/* ---- the parts of a block ---- */

/* y = x r with r = (mean x^2 + eps)^-1/2, which is kept for the way back. n is a multiple of VL. */
static inline float ISA(norm)(float *y, const float *x, int n, float eps, float gain) {
    vec squares = {0};
    for (int c = 0; c < n; c += VL) squares += ld(x + c) * ld(x + c);
    float r = 1 / sqrtf(ISA(sum)(squares) / n + eps);
    for (int c = 0; c < n; c += VL) st(y + c, ld(x + c) * (r * gain));
    return r;
}

/* dx (+)= r (dy - y mean(dy y)), y = x r. */
static inline void ISA(norm_back)(float *dx, const float *dy, const float *x, float r, int n, int add) {
    vec dots = {0};
    for (int c = 0; c < n; c += VL) dots += ld(dy + c) * ld(x + c);
    float mean = ISA(sum)(dots) * r / n;
    for (int c = 0; c < n; c += VL) {
        vec d = (ld(dy + c) - ld(x + c) * (r * mean)) * r;
        st(dx + c, add ? ld(dx + c) + d : d);
    }
}

/* x (D) turned by its position's angle, or back (`way` -1); cos and sin have D / 2 numbers. */
static inline void ISA(turn)(float *x, const float *cos, const float *sin, int D, float way, float scale) {
    for (int i = 0; i < D / 2; i += VL) {
        vec l = ld(x + i), r = ld(x + D / 2 + i), c = ld(cos + i) * scale, s = ld(sin + i) * (way * scale);
        st(x + i, l * c - r * s);
        st(x + D / 2 + i, r * c + l * s);
    }
}

/* Attention of all heads: qkv (T, J) -> mixed (T, H D); `sums` (H, T) keeps the logarithm of each softmax's sum. A token
 * looks at those from `start` of its own document to itself, so of the keys only those of a block's documents are read. */
static void ISA(attend)(const Shape *s, Room *w, int T, const float *qkv, float *mixed, float *sums) {
    const int D = s->D, J = s->J, wide = s->H * D;
    const float scale = 1 / sqrtf(D);
    const long key_panel = (long)UNIT(D) * PANEL, value_panel = (long)UNIT(w->T) * PANEL;
    for (int g = 0; g < s->K; g++) {
        ISA(right_turned)(w->keys_turned, qkv + wide + g * D, J, D, T);
        for (int j = 0; j < D; j += PANEL) /* panels of all T rows, so that a product may begin at any even row */
            ISA(right)(w->values + j / PANEL * value_panel, qkv + wide + (s->K + g) * D + j, J, T, D - j < PANEL ? D - j : PANEL);
        for (int h = g * (s->H / s->K); h < (g + 1) * (s->H / s->K); h++)
            for (int a = 0; a < T; a += BLOCK) {
                int e = a + BLOCK < T ? a + BLOCK : T, low = w->start[a] / PANEL * PANEL, n = e - low;
                Left q = ISA(left)(w->left, qkv + (long)a * J + h * D, J, e - a, D);
                ISA(product)(e - a, n, D, q, w->keys_turned + low / PANEL * key_panel, key_panel, w->scores, w->apart, 0);
                for (int t = a; t < e; t++) {
                    float *row = w->scores + (long)(t - a) * w->apart;
                    int from = w->start[t] - low, to = t + 1 - low;
                    float top = row[from], total = 0;
                    for (int j = from; j < to; j++) top = row[j] > top ? row[j] : top;
                    for (int j = 0; j < from; j++) row[j] = 0;
                    int j = from;
                    vec totals = {0};
                    for (; j + VL <= to; j += VL) {
                        vec p = ISA(exp)((ld(row + j) - top) * scale);
                        st(row + j, p), totals += p;
                    }
                    for (; j < to; j++) total += row[j] = expf((row[j] - top) * scale);
                    total += ISA(sum)(totals);
                    for (j = to; j < (n + 15) / 16 * 16; j++) row[j] = 0;
                    sums[h * w->T + t] = top * scale + logf(total);
                    float share = 1 / total;
                    for (j = from; j < to; j++) row[j] *= share;
                }
                Left p = ISA(left)(w->left, w->scores, w->apart, e - a, (n + 15) / 16 * 16);
                ISA(product)(e - a, D, n, p, w->values + (long)low / (PAIRS + 1) * PANEL, value_panel, mixed + (long)a * wide + h * D, wide, 0);
            }
    }
}

/* The way back: dmixed (T, H D) -> dqkv (T, J). */
static void ISA(attend_back)(const Shape *s, Room *w, int T, const float *qkv, const float *mixed, const float *sums,
                             const float *dmixed, float *dqkv) {
    const int D = s->D, J = s->J, wide = s->H * D, full = (T + 15) / 16 * 16;
    const float scale = 1 / sqrtf(D);
    const long key_panel = (long)UNIT(D) * PANEL, row_panel = (long)UNIT(w->T) * PANEL;
    memset(dqkv, 0, sizeof(float) * full * J);
    for (int g = 0; g < s->K; g++) {
        const int k_at = wide + g * D, v_at = wide + (s->K + g) * D;
        ISA(right_turned)(w->keys_turned, qkv + k_at, J, D, T);
        ISA(right_turned)(w->values_turned, qkv + v_at, J, D, T);
        for (int j = 0; j < D; j += PANEL)
            ISA(right)(w->keys + j / PANEL * row_panel, qkv + k_at + j, J, T, D - j < PANEL ? D - j : PANEL);
        for (int h = g * (s->H / s->K); h < (g + 1) * (s->H / s->K); h++)
            for (int a = 0; a < T; a += BLOCK) {
                int e = a + BLOCK < T ? a + BLOCK : T, low = w->start[a] / PANEL * PANEL, n = e - low, m = e - a;
                const float *q = qkv + (long)a * J + h * D, *d = dmixed + (long)a * wide + h * D;
                Left ql = ISA(left)(w->left, q, J, m, D);
                ISA(product)(m, n, D, ql, w->keys_turned + low / PANEL * key_panel, key_panel, w->scores, w->apart, 0);
                Left dl = ISA(left)(w->left, d, wide, m, D);
                ISA(product)(m, n, D, dl, w->values_turned + low / PANEL * key_panel, key_panel, w->dscores, w->apart, 0);
                for (int t = a; t < e; t++) {
                    float *p = w->scores + (long)(t - a) * w->apart, *dp = w->dscores + (long)(t - a) * w->apart;
                    const float *o = mixed + (long)t * wide + h * D, *dout = dmixed + (long)t * wide + h * D;
                    vec dots = {0};
                    for (int c = 0; c < D; c += VL) dots += ld(o + c) * ld(dout + c);
                    float delta = ISA(sum)(dots), minus = sums[h * w->T + t];
                    int from = w->start[t] - low, to = t + 1 - low, j = from;
                    for (int i = 0; i < from; i++) p[i] = dp[i] = 0;
                    for (; j + VL <= to; j += VL) {
                        vec share = ISA(exp)(ld(p + j) * scale - minus);
                        st(p + j, share);
                        st(dp + j, share * (ld(dp + j) - delta) * scale);
                    }
                    for (; j < to; j++) {
                        p[j] = expf(p[j] * scale - minus);
                        dp[j] = p[j] * (dp[j] - delta) * scale;
                    }
                    for (j = to; j < (n + 15) / 16 * 16; j++) p[j] = dp[j] = 0;
                }
                Left dsl = ISA(left)(w->left, w->dscores, w->apart, m, (n + 15) / 16 * 16);
                ISA(product)(m, D, n, dsl, w->keys + (long)low / (PAIRS + 1) * PANEL, row_panel, dqkv + (long)a * J + h * D, J, 0);
                Left turned = ISA(left_turned)(w->left, w->dscores, w->apart, m, n);
                ISA(right)(w->block, q, J, m, D);
                ISA(product)(n, D, m, turned, w->block, (long)UNIT(m) * PANEL, dqkv + (long)low * J + k_at, J, 1);
                turned = ISA(left_turned)(w->left, w->scores, w->apart, m, n);
                ISA(right)(w->block, d, wide, m, D);
                ISA(product)(n, D, m, turned, w->block, (long)UNIT(m) * PANEL, dqkv + (long)low * J + v_at, J, 1);
            }
    }
}

/* y (rows x n) (+)= x (rows x k) by a packed matrix. */
static void ISA(times)(Room *w, float *y, const float *x, int rows, int k, int n, const float *packed, int add) {
    ISA(product)(rows, n, k, ISA(left)(w->left, x, k, rows, k), packed, (long)UNIT(k) * PANEL, y, n, add);
}

/* The gradient of a matrix (n x k): dw += dy^T x for dy (rows x n, `ldy` apart), x (rows x k). */
static void ISA(weigh)(Room *w, float *dw, const float *dy, long ldy, const float *x, int rows, int n, int k) {
    ISA(right)(w->right, x, k, rows, k);
    ISA(product)(n, k, rows, ISA(left_turned)(w->left, dy, ldy, rows, n), w->right, (long)UNIT(rows) * PANEL, dw, k, 1);
}

/* ---- a row: its losses, and what they add to the gradients ---- */

static void ISA(row)(const Shape *s, const Weights *weights, Room *w, const int64_t *ids, const int64_t *targets,
                     const float *scales, float *nats) {
    const int C = s->C, D = s->D, J = s->J, F = s->F, V = s->V, VR = (V + 15) / 16 * 16, heads = s->H + s->K, wide = s->H * D;
    int T = w->T;
    while (T && targets[T - 1] < 0) T--; /* nobody sees what comes after the last target */
    for (int t = T; t < w->T; t++) nats[t] = 0;
    if (!T) return;

    for (int t = 0; t < T; t++) ISA(norm)(w->x[0] + (long)t * C, weights->embed + ids[t] * C, C, EMBED_EPS, 1);
    for (int l = 0; l < s->L; l++) {
        const Packed *m = weights->layers + l;
        float *x = w->x[l], *qkv = w->qkv[l], *mid = w->mid[l], *gu = w->gu[l], *next = w->x[l + 1];
        for (int t = 0; t < T; t++) w->r1[l][t] = ISA(norm)(w->y + (long)t * C, x + (long)t * C, C, s->eps, 1);
        ISA(times)(w, qkv, w->y, T, C, J, m->qkv, 0);
        for (int t = 0; t < T; t++)
            for (int h = 0; h < heads; h++) {
                float *q = qkv + (long)t * J + h * D;
                w->rh[l][t * heads + h] = ISA(norm)(q, q, D, s->eps, h < s->H ? s->gain : 1);
                ISA(turn)(q, weights->cos + (long)t * D, weights->sin + (long)t * D, D, 1, 1);
            }
        ISA(attend)(s, w, T, qkv, w->mixed[l], w->sums[l]);
        memcpy(mid, x, sizeof(float) * T * C);
        ISA(times)(w, mid, w->mixed[l], T, wide, C, m->o, 1);
        for (int t = 0; t < T; t++) w->r2[l][t] = ISA(norm)(w->y + (long)t * C, mid + (long)t * C, C, s->eps, 1);
        ISA(times)(w, gu, w->y, T, C, 2 * F, m->gate_up, 0);
        for (int t = 0; t < T; t++)
            for (int f = 0; f < F; f += VL) {
                vec gate = ld(gu + (long)t * 2 * F + f), up = ld(gu + (long)t * 2 * F + F + f);
                st(w->h + (long)t * F + f, gate * up / (1.0f + ISA(exp)(-gate)));
            }
        memcpy(next, mid, sizeof(float) * T * C);
        ISA(times)(w, next, w->h, T, F, C, m->down, 1);
    }

    /* The head, for those tokens alone that have a target, and never more than CHUNK of them at once. */
    float *last = w->x[s->L], *dx = w->dx;
    memset(dx, 0, sizeof(float) * T * C);
    int some[CHUNK], n = 0;
    for (int t = 0; t < T; t++) {
        if (targets[t] < 0) nats[t] = 0;
        else some[n++] = t;
        if (n < CHUNK && t + 1 < T) continue;
        for (int i = 0; i < n; i++) w->rl[i] = ISA(norm)(w->y + (long)i * C, last + (long)some[i] * C, C, s->eps, 1);
        ISA(times)(w, w->logits, w->y, n, C, VR, weights->head, 0);
        for (int i = 0; i < n; i++) {
            float *logits = w->logits + (long)i * VR, top = logits[0], total = 0;
            const int target = (int)targets[some[i]];
            int v = 0;
            for (int j = 1; j < V; j++) top = logits[j] > top ? logits[j] : top;
            float at = logits[target];
            vec totals = {0};
            for (; v + VL <= V; v += VL) {
                vec p = ISA(exp)(ld(logits + v) - top);
                st(logits + v, p), totals += p;
            }
            for (; v < V; v++) total += logits[v] = expf(logits[v] - top);
            total += ISA(sum)(totals);
            nats[some[i]] = logf(total) + top - at;
            float share = scales[some[i]] / total;
            for (v = 0; v < V; v++) logits[v] *= share;
            logits[target] -= scales[some[i]];
            for (; v < VR; v++) logits[v] = 0;
        }
        ISA(weigh)(w, w->grads.head, w->logits, VR, w->y, n, V, C);
        ISA(times)(w, w->dy, w->logits, n, VR, C, weights->head_back, 0);
        for (int i = 0; i < n; i++)
            ISA(norm_back)(dx + (long)some[i] * C, w->dy + (long)i * C, last + (long)some[i] * C, w->rl[i], C, 0);
        n = 0;
    }

    for (int l = s->L - 1; l >= 0; l--) {
        const Packed *m = weights->layers + l;
        float *x = w->x[l], *qkv = w->qkv[l], *mid = w->mid[l], *gu = w->gu[l];
        ISA(times)(w, w->h, dx, T, C, F, m->down_back, 0);
        for (int t = 0; t < T; t++)
            for (int f = 0; f < F; f += VL) {
                float *g = gu + (long)t * 2 * F + f, *h = w->h + (long)t * F + f;
                vec gate = ld(g), up = ld(g + F), dh = ld(h), open = 1.0f / (1.0f + ISA(exp)(-gate)), silu = gate * open;
                st(h, silu * up);
                st(g, dh * up * (open + silu * (1.0f - open)));
                st(g + F, dh * silu);
            }
        ISA(weigh)(w, w->grads.layers[l].down, dx, C, w->h, T, C, F);
        for (int t = 0; t < T; t++)
            for (int c = 0; c < C; c += VL) st(w->y + (long)t * C + c, ld(mid + (long)t * C + c) * w->r2[l][t]);
        ISA(weigh)(w, w->grads.layers[l].gate_up, gu, 2 * F, w->y, T, 2 * F, C);
        ISA(times)(w, w->dy, gu, T, 2 * F, C, m->gate_up_back, 0);
        for (int t = 0; t < T; t++)
            ISA(norm_back)(dx + (long)t * C, w->dy + (long)t * C, mid + (long)t * C, w->r2[l][t], C, 1);

        ISA(weigh)(w, w->grads.layers[l].o, dx, C, w->mixed[l], T, C, wide);
        ISA(times)(w, w->dmixed, dx, T, C, wide, m->o_back, 0);
        ISA(attend_back)(s, w, T, qkv, w->mixed[l], w->sums[l], w->dmixed, w->dqkv);
        for (int t = 0; t < T; t++)
            for (int h = 0; h < heads; h++) {
                float *q = qkv + (long)t * J + h * D, *dq = w->dqkv + (long)t * J + h * D, gain = h < s->H ? s->gain : 1;
                float r = w->rh[l][t * heads + h];
                const float *cos = weights->cos + (long)t * D, *sin = weights->sin + (long)t * D;
                ISA(turn)(dq, cos, sin, D, -1, gain);
                ISA(turn)(q, cos, sin, D, -1, 1 / (gain * r)); /* the number before the norm again */
                ISA(norm_back)(dq, dq, q, r, D, 0);
            }
        for (int t = 0; t < T; t++)
            for (int c = 0; c < C; c += VL) st(w->y + (long)t * C + c, ld(x + (long)t * C + c) * w->r1[l][t]);
        ISA(weigh)(w, w->grads.layers[l].qkv, w->dqkv, J, w->y, T, J, C);
        ISA(times)(w, w->dy, w->dqkv, T, J, C, m->qkv_back, 0);
        for (int t = 0; t < T; t++)
            ISA(norm_back)(dx + (long)t * C, w->dy + (long)t * C, x + (long)t * C, w->r1[l][t], C, 1);
    }
    for (int t = 0; t < T; t++) {
        const float *row = weights->embed + ids[t] * C;
        vec squares = {0};
        for (int c = 0; c < C; c += VL) squares += ld(row + c) * ld(row + c);
        float r = 1 / sqrtf(ISA(sum)(squares) / C + EMBED_EPS);
        ISA(norm_back)(w->grads.embed + ids[t] * C, dx + (long)t * C, row, r, C, 1);
    }
}

#undef vec
#undef ivec
#undef ld
#undef st
#undef UNIT
