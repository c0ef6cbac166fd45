/* The training step of one row of tokens, forwards and backwards: read native.c first, and products.h beside the optimizer.
 * Included once for each instruction set.
 *
 * Letters: T tokens of the row, C channels, H heads, K key/value heads, D head size, J = (H + 2K) D, F hidden, V
 * vocabulary, L layers. All of a row's numbers stay with one thread, and as near to its core as they fit.
 */

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
static __attribute__((noinline)) void ISA(attend)(const Shape *s, Room *w, int T, const float *qkv, float *mixed, float *sums) {
    const int D = s->D, J = s->J, wide = s->H * D;
    const float scale = 1 / sqrtf(D);
    for (int g = 0; g < s->K; g++) {
        const Right keys = ISA(right_turned)(w->keys_turned, qkv + wide + g * D, J, D, T);
        const Right values = ISA(right)(w->values, qkv + wide + (s->K + g) * D, J, T, D, w->T); /* of all T rows: a product may begin at any 64th */
        for (int h = g * (s->H / s->K); h < (g + 1) * (s->H / s->K); h++)
            for (int a = 0; a < T; a += BLOCK) {
                int e = a + BLOCK < T ? a + BLOCK : T, low = w->start[a] / PANEL * PANEL, n = e - low;
                Left q = ISA(left)(w->left, qkv + (long)a * J + h * D, J, e - a, D);
                ISA(product)(e - a, n, D, q, ISA(from_column)(keys, low), w->scores, w->apart, 0);
                for (int t = a; t < e; t++) {
                    float *row = w->scores + (long)(t - a) * w->apart;
                    int from = w->start[t] - low, to = t + 1 - low;
                    float top = ISA(largest)(row + from, to - from), total = 0;
                    for (int j = 0; j < from; j++) row[j] = 0;
                    int j = from;
                    vec totals = {0};
                    for (; j + VL <= to; j += VL) {
                        vec p = ISA(exp)((ld(row + j) - top) * scale);
                        st(row + j, p), totals += p;
                    }
                    for (; j < to; j++) total += row[j] = expf((row[j] - top) * scale);
                    total += ISA(sum)(totals);
                    for (j = to; j < UP(n, 32); j++) row[j] = 0;
                    sums[h * w->T + t] = top * scale + logf(total);
                    float share = 1 / total;
                    for (j = from; j < to; j++) row[j] *= share;
                }
                Left p = ISA(left)(w->left, w->scores, w->apart, e - a, UP(n, 32));
                ISA(product)(e - a, D, n, p, ISA(from_row)(values, low), mixed + (long)a * wide + h * D, wide, 0);
            }
    }
}

/* The way back: dmixed (T, H D) -> dqkv (T, J). */
static __attribute__((noinline)) void ISA(attend_back)(const Shape *s, Room *w, int T, const float *qkv, const float *mixed, const float *sums,
                             const float *dmixed, float *dqkv) {
    const int D = s->D, J = s->J, wide = s->H * D, full = UP(T, 16);
    const float scale = 1 / sqrtf(D);
    memset(dqkv, 0, sizeof(float) * full * J);
    for (int g = 0; g < s->K; g++) {
        const int k_at = wide + g * D, v_at = wide + (s->K + g) * D;
        const Right keys_turned = ISA(right_turned)(w->keys_turned, qkv + k_at, J, D, T);
        const Right values_turned = ISA(right_turned)(w->values_turned, qkv + v_at, J, D, T);
        const Right keys = ISA(right)(w->keys, qkv + k_at, J, T, D, w->T);
        for (int h = g * (s->H / s->K); h < (g + 1) * (s->H / s->K); h++)
            for (int a = 0; a < T; a += BLOCK) {
                int e = a + BLOCK < T ? a + BLOCK : T, low = w->start[a] / PANEL * PANEL, n = e - low, m = e - a;
                const float *q = qkv + (long)a * J + h * D, *d = dmixed + (long)a * wide + h * D;
                Left ql = ISA(left)(w->left, q, J, m, D);
                ISA(product)(m, n, D, ql, ISA(from_column)(keys_turned, low), w->scores, w->apart, 0);
                Left dl = ISA(left)(w->left, d, wide, m, D);
                ISA(product)(m, n, D, dl, ISA(from_column)(values_turned, low), w->dscores, w->apart, 0);
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
                    for (j = to; j < UP(n, 32); j++) p[j] = dp[j] = 0;
                }
                Left dsl = ISA(left)(w->left, w->dscores, w->apart, m, UP(n, 32));
                ISA(product)(m, D, n, dsl, ISA(from_row)(keys, low), dqkv + (long)a * J + h * D, J, 0);
                Left turned = ISA(left_turned)(w->left, w->dscores, w->apart, m, n);
                ISA(product)(n, D, m, turned, ISA(right)(w->block, q, J, m, D, m), dqkv + (long)low * J + k_at, J, 1);
                turned = ISA(left_turned)(w->left, w->scores, w->apart, m, n);
                ISA(product)(n, D, m, turned, ISA(right)(w->block, d, wide, m, D, m), dqkv + (long)low * J + v_at, J, 1);
            }
    }
}

/* y (rows x n) (+)= x (rows x k) by a packed matrix. */
static __attribute__((noinline)) void ISA(times)(Room *w, float *y, const float *x, int rows, int k, int n, const float *packed, int add) {
    ISA(product)(rows, n, k, ISA(left)(w->left, x, k, rows, k), ISA(packed)(packed, k, n), y, n, add);
}

/* The gradient of a matrix (n x k): dw += dy^T x for dy (rows x n, `ldy` apart), x (rows x k). */
static __attribute__((noinline)) void ISA(weigh)(Room *w, float *dw, const float *dy, long ldy, const float *x, int rows, int n, int k) {
    const Right right = ISA(right)(w->right, x, k, rows, k, rows);
    ISA(product)(n, k, rows, ISA(left_turned)(w->left, dy, ldy, rows, n), right, dw, k, 1);
}

/* Layer l from its stream x[l], to the stream after it, `next`, or without it where only what lies between is wanted. */
static __attribute__((noinline)) void ISA(layer)(const Shape *s, const Weights *weights, Room *w, int T, int l, float *next) {
    const int C = s->C, D = s->D, J = s->J, F = s->F, heads = s->H + s->K, wide = s->H * D;
    const Packed *m = weights->layers + l;
    float *x = w->x[l], *qkv = w->qkv[l], *mid = w->mid[l], *gu = w->gu[l];
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
    if (!next) return;
    for (int t = 0; t < T; t++)
        for (int f = 0; f < F; f += VL) {
            vec gate = ld(gu + (long)t * 2 * F + f), up = ld(gu + (long)t * 2 * F + F + f);
            st(w->h + (long)t * F + f, gate * up / (1.0f + ISA(exp)(-gate)));
        }
    memcpy(next, mid, sizeof(float) * T * C);
    ISA(times)(w, next, w->h, T, F, C, m->down, 1);
}

/* ---- a row: its losses, and what they add to the gradients ---- */

static void ISA(row)(const Shape *s, const Weights *weights, Room *w, const int64_t *ids, const int64_t *targets,
                     const float *scales, float *nats) {
    const int C = s->C, D = s->D, J = s->J, F = s->F, V = s->V, VR = UP(V, 32), heads = s->H + s->K, wide = s->H * D;
    int T = w->T;
    while (T && targets[T - 1] < 0) T--; /* nobody sees what comes after the last target */
    for (int t = T; t < w->T; t++) nats[t] = 0;
    if (!T) return;

    for (int t = 0; t < T; t++) ISA(norm)(w->x[0] + (long)t * C, weights->embed + ids[t] * C, C, EMBED_EPS, 1);
    for (int l = 0; l < s->L; l++) ISA(layer)(s, weights, w, T, l, w->x[l + 1]);

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
            float *logits = w->logits + (long)i * VR, top = ISA(largest)(logits, V), total = 0;
            const int target = (int)targets[some[i]];
            int v = 0;
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
        if (s->again && l < s->L - 1) ISA(layer)(s, weights, w, T, l, NULL); /* what lay between was overwritten */
        const Packed *m = weights->layers + l;
        float *x = w->x[l], *qkv = w->qkv[l], *mid = w->mid[l], *gu = w->gu[l];
        ISA(times)(w, w->h, dx, T, C, F, m->down_back, 0);
        for (int t = 0; t < T; t++)
            for (int f = 0; f < F; f += VL) {
                float *g = gu + (long)t * 2 * F + f, *h = w->h + (long)t * F + f;
                __builtin_prefetch(g + 2 * F, 1), __builtin_prefetch(g + 3 * F, 1); /* from the way there, long ago */
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
