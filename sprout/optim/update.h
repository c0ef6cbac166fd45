/* Muon's and AdamW's update, as in muon.py and adamw.py; included once for each instruction set. */

/* One step on p (rows x columns) by gradient g and its running average m. Room: x, s, t of rows x columns or more each,
 * left and right as well. */
static void ISA(muon)(float *p, const float *g, float *m, int rows, int columns, float lr, float beta, float decay,
                      const float *quintic, int steps, Scratch *w) {
    const long n = (long)rows * columns;
    const int tall = rows > columns, r = tall ? columns : rows, c = tall ? rows : columns;
    const float scale = lr * (tall ? sqrtf((float)rows / columns) : 1);
    vec squares = {0};
    for (long i = 0; i < n; i += VL) {
        vec now = ld(g + i), mean = ld(m + i) + (now - ld(m + i)) * (1 - beta), ahead = now + (mean - now) * beta;
        st(m + i, mean);
        st(w->t + i, ahead);
        squares += ahead * ahead;
    }
    const float shrink = 1 / (sqrtf(ISA(sum)(squares)) * 1.01f + 1e-7f);
    for (int i = 0; i < r; i++) /* x is wide, whatever the matrix is */
        for (int j = 0; j < c; j++) w->x[(long)i * c + j] = (tall ? w->t[(long)j * r + i] : w->t[(long)i * c + j]) * shrink;
    for (int k = 0; k < steps; k++) {
        ISA(right_turned)(w->right, w->x, c, c, r);
        ISA(product)(r, r, c, ISA(left)(w->left, w->x, c, r, c), w->right, (long)UNIT(c) * PANEL, w->s, r, 0);
        ISA(right)(w->right, w->s, r, r, r);
        ISA(product)(r, r, r, ISA(left)(w->left, w->s, r, r, r), w->right, (long)UNIT(r) * PANEL, w->t, r, 0);
        for (long i = 0; i < (long)r * r; i += VL) st(w->t + i, ld(w->s + i) * quintic[1] + ld(w->t + i) * quintic[2]);
        ISA(right)(w->right, w->x, c, r, c);
        for (long i = 0; i < n; i += VL) st(w->x + i, ld(w->x + i) * quintic[0]);
        ISA(product)(r, c, r, ISA(left)(w->left, w->t, r, r, r), w->right, (long)UNIT(r) * PANEL, w->x, c, 1);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            float *to = p + (long)i * columns + j;
            *to = *to * (1 - lr * decay) - scale * (tall ? w->x[(long)j * c + i] : w->x[(long)i * c + j]);
        }
}

static void ISA(adamw)(float *p, const float *g, float *m, float *v, long n, float lr, float beta1, float beta2, float eps,
                       float decay, float correct1, float correct2) {
    for (long i = 0; i < n; i++) {
        m[i] += (g[i] - m[i]) * (1 - beta1);
        v[i] += (g[i] * g[i] - v[i]) * (1 - beta2);
        p[i] = p[i] * (1 - lr * decay) - lr * (m[i] / correct1) / (sqrtf(v[i] / correct2) + eps);
    }
}
