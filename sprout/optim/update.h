/* Muon's and AdamW's update, as in muon.py and adamw.py; included once for each instruction set. In float32 only: that S loses
 * what bfloat16 would round is seen in the small singular values. */
#if !INTEGERS

/* C = A^T B for A and B (k x r), where that is symmetric: its lower half, and what shares a tile with it. All lie in panels,
 * as a right side does: an element of A's column is then a step of 64 away. */
static __attribute__((noinline)) void ISA(lower)(int r, int k, const float *a, const float *b, float *c) {
    const int tiles = (r + MR - 1) / MR, share = (k * (PANEL / 16) + tiles - 1) / tiles;
    for (int j = 0; j < r; j += PANEL, b += (long)k * PANEL, c += (long)r * PANEL)
        for (int i = j, ahead = 0; i < r; i += MR) {
            const float *rows[MR];
            for (int n = 0; n < MR; n++) {
                int at = i + n < r ? i + n : i;
                rows[n] = a + (long)(at / PANEL) * k * PANEL + at % PANEL;
            }
            if (j + PANEL < r)
                for (int l = 0; l < share && ahead < k * (PANEL / 16); l++, ahead++) __builtin_prefetch(b + (long)k * PANEL + ahead * 16, 0, 2);
            for (int s = 0; s < PANEL && j + s < i + MR && j + s < r; s += NV * VL)
                ISA(tile)(k, rows, PANEL, b + s, c + (long)i * PANEL + s, PANEL, r - i, r - j - s, 0, NULL, NULL);
        }
}

/* C = diagonal + by C + also_by B (B NULL: without it), symmetric in panels, from the lower half of C alone. */
static __attribute__((noinline)) void ISA(whole)(int r, float *c, float by, const float *b, float also_by, float diagonal) {
    for (int j = 0; j < r; j += PANEL)
        for (int i = j; i < r; i += PANEL) {
            float *low = c + (long)j * r + (long)i * PANEL, *high = c + (long)i * r + (long)j * PANEL;
            const float *other = b ? b + (long)j * r + (long)i * PANEL : NULL;
            const int m = r - i < PANEL ? r - i : PANEL;
            if (b)
                for (int n = 0; n < m * PANEL; n += VL) st(low + n, ld(low + n) * by + ld(other + n) * also_by);
            else if (by != 1)
                for (int n = 0; n < m * PANEL; n += VL) st(low + n, ld(low + n) * by);
            if (i == j)
                for (int n = 0; n < m; n++) {
                    low[n * PANEL + n] += diagonal;
                    for (int o = 0; o < n; o++) low[o * PANEL + n] = low[n * PANEL + o];
                }
            else
                for (int n = 0; n < m; n++) /* all panels but the last are full */
                    for (int o = 0; o < PANEL; o++) high[o * PANEL + n] = low[n * PANEL + o];
        }
}

static inline void ISA(swap)(float **a, float **b) { float *c = *a; *a = *b, *b = c; }

/* One step on p (rows x columns) by gradient g and its running average m. The iteration of muon.py, X <- q(X X^T) X, is
 * done on S = X X^T, of the shorter side r, alone: S <- q S q and P <- q P. All of these are symmetric, being powers of the
 * first S, so half of each is computed. X itself is met twice: for the first S, and in P X. */
static void ISA(muon)(float *p, const float *g, float *m, int rows, int columns, float lr, float beta, float decay,
                      const float *quintic, int steps, Scratch *w) {
    const long n = (long)rows * columns;
    const int wide = rows < columns, r = wide ? rows : columns, c = wide ? columns : rows;
    float *s = w->s, *power = w->p, *t = w->t;
    vec squares = {0};
    for (long i = 0; i < n; i += VL) {
        vec now = ld(g + i), mean = ld(m + i) + (now - ld(m + i)) * (1 - beta), ahead = now + (mean - now) * beta;
        st(m + i, mean);
        st(w->x + i, ahead);
        st(p + i, ld(p + i) * (1 - lr * decay));
        squares += ahead * ahead;
    }
    const float shrink = 1 / (sqrtf(ISA(sum)(squares)) * 1.01f + 1e-7f);
    if (wide) ISA(right_turned)(w->right, w->x, c, c, r);
    else ISA(right)(w->right, w->x, r, c, r, c);
    ISA(lower)(r, c, w->right, w->right, s);
    ISA(whole)(r, s, shrink * shrink, NULL, 0, 0);
    for (int k = 0; k < steps; k++) {
        float *q = k ? w->q : power;
        ISA(lower)(r, r, s, s, q);
        ISA(whole)(r, q, quintic[2], s, quintic[1], quintic[0]);
        if (k) {
            ISA(lower)(r, r, q, power, t);
            ISA(whole)(r, t, 1, NULL, 0, 0);
            ISA(swap)(&power, &t);
        }
        if (k + 1 == steps) break;
        ISA(lower)(r, r, s, q, t);
        ISA(whole)(r, t, 1, NULL, 0, 0);
        ISA(lower)(r, r, t, q, s);
        ISA(whole)(r, s, 1, NULL, 0, 0);
    }
    const float scale = -lr * shrink * (rows > columns ? sqrtf((float)rows / columns) : 1);
    for (int i = 0; i < r; i++)
        for (int j = 0; j < r; j += VL) st(s + (long)i * r + j, ld(power + (long)(j / PANEL) * r * PANEL + i * PANEL + j % PANEL) * scale);
    const Right right = ISA(right)(w->right, wide ? w->x : s, wide ? c : r, r, wide ? c : r, r);
    ISA(product)(rows, columns, r, ISA(left)(NULL, wide ? s : w->x, r, rows, r), right, p, columns, 1);
}

static void ISA(adamw)(float *p, const float *g, float *m, float *v, long n, float lr, float beta1, float beta2, float eps,
                       float decay, float correct1, float correct2) {
    for (long i = 0; i < n; i++) {
        m[i] += (g[i] - m[i]) * (1 - beta1);
        v[i] += (g[i] * g[i] - v[i]) * (1 - beta2);
        p[i] = p[i] * (1 - lr * decay) - lr * (m[i] / correct1) / (sqrtf(v[i] / correct2) + eps);
    }
}
#endif
