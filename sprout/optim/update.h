/* Muon's and AdamW's update, as in muon.py and adamw.py; included once for each instruction set. */

/* from (rows x columns), turned, times a number. */
static void ISA(transpose)(float *to, const float *from, int rows, int columns, float by) {
    for (int i = 0; i < rows; i += 16) /* sixteen rows at a time: a line of memory is written whole */
        for (int j = 0; j < columns; j++)
            for (int r = i; r < i + 16; r++) to[(long)j * rows + r] = from[(long)r * columns + j] * by;
}

/* One step on p (rows x columns) by gradient g and its running average m. What is made orthogonal is held tall, y (c x r),
 * so that of its products y^T y and y (a + b s + c s^2) neither has to turn it. */
static void ISA(muon)(float *p, const float *g, float *m, int rows, int columns, float lr, float beta, float decay,
                      const float *quintic, int steps, Scratch *w) {
    const long n = (long)rows * columns;
    const int wide = rows < columns, r = wide ? rows : columns, c = wide ? columns : rows;
    const float scale = lr * (rows > columns ? sqrtf((float)rows / columns) : 1);
    float *y = w->x, *next = w->t;
    vec squares = {0};
    for (long i = 0; i < n; i += VL) {
        vec now = ld(g + i), mean = ld(m + i) + (now - ld(m + i)) * (1 - beta), ahead = now + (mean - now) * beta;
        st(m + i, mean);
        st(next + i, ahead);
        squares += ahead * ahead;
    }
    const float shrink = 1 / (sqrtf(ISA(sum)(squares)) * 1.01f + 1e-7f);
    if (wide) ISA(transpose)(y, next, r, c, shrink);
    else for (long i = 0; i < n; i += VL) st(y + i, ld(next + i) * shrink);
    for (int k = 0; k < steps; k++) {
        ISA(right)(w->right, y, r, c, r);
        ISA(product)(r, r, c, ISA(left_turned)(w->left, y, r, c, r), w->right, (long)UNIT(c) * PANEL, w->s, r, 0);
        ISA(right)(w->right, w->s, r, r, r);
        ISA(product)(r, r, r, ISA(left)(w->left, w->s, r, r, r), w->right, (long)UNIT(r) * PANEL, w->q, r, 0);
        for (long i = 0; i < (long)r * r; i += VL) st(w->q + i, ld(w->s + i) * quintic[1] + ld(w->q + i) * quintic[2]);
        for (int i = 0; i < r; i++) w->q[(long)i * r + i] += quintic[0];
        ISA(right)(w->right, w->q, r, r, r);
        ISA(product)(c, r, r, ISA(left)(w->left, y, r, c, r), w->right, (long)UNIT(r) * PANEL, next, r, 0);
        float *before = y;
        y = next, next = before;
    }
    if (wide) {
        ISA(transpose)(next, y, c, r, 1);
        y = next;
    }
    for (long i = 0; i < n; i += VL) st(p + i, ld(p + i) * (1 - lr * decay) - ld(y + i) * scale);
}

static void ISA(adamw)(float *p, const float *g, float *m, float *v, long n, float lr, float beta1, float beta2, float eps,
                       float decay, float correct1, float correct2) {
    for (long i = 0; i < n; i++) {
        m[i] += (g[i] - m[i]) * (1 - beta1);
        v[i] += (g[i] * g[i] - v[i]) * (1 - beta2);
        p[i] = p[i] * (1 - lr * decay) - lr * (m[i] / correct1) / (sqrtf(v[i] / correct2) + eps);
    }
}
