/* Both sides of products of 16-bit integers, which processors with VNNI compute at twice the rate of float32, and their sums
 * exactly: each part of a row of A, and each column of B, is scaled to LONGEST and rounded. That rounds less than bfloat16 does where numbers
 * are about as large as their neighbours (a ten-thousandth of what is usual among them, not some thousandths of each one), and no
 * sum leaves 32 bits: none is larger than the product of the lengths (Cauchy and Schwarz). Integers for training: arXiv 1802.00930.
 *
 * Two integers whose products are added up next, numbers 2t and 2t + 1 of the sum, lie in the place of a float; beyond that both
 * sides lie as those of float32 do. B's scales are behind its panels. */
#define LONGEST 32767.0f

/* What brings vectors of these squared lengths to LONGEST, and what brings them back; nothing has no length and stays. */
static inline vec ISA(scaled)(vec squares, vec *back) {
    const __m512 length = _mm512_sqrt_ps((__m512)squares);
    *back = (vec)length * (1 / LONGEST);
    return (vec)_mm512_maskz_div_ps(_mm512_cmp_ps_mask(length, _mm512_setzero_ps(), _CMP_NEQ_UQ), _mm512_set1_ps(LONGEST), length);
}

static inline __m512i ISA(rounded)(const float *x, vec by) { return _mm512_cvtps_epi32((__m512)(ld(x) * by)); }

/* Sixteen pairs, of a row and the next one. */
static inline __m512i ISA(pairs)(const float *x, const float *next, vec by) {
    const __m512i second = next ? _mm512_slli_epi32(ISA(rounded)(next, by), 16) : _mm512_setzero_si512();
    return _mm512_mask_blend_epi16(0xAAAAAAAA, ISA(rounded)(x, by), second);
}

/* A row of k numbers, k in sixteens, to k / 2 pairs; what brings it back. */
static inline float ISA(rounded_row)(float *to, const float *x, int k) {
    vec squares = {0}, back;
    for (int j = 0; j < k; j += VL) squares += ld(x + j) * ld(x + j);
    const vec by = ISA(scaled)((vec){0} + _mm512_reduce_add_ps((__m512)squares), &back);
    for (int j = 0; j < k; j += VL) _mm256_storeu_si256((__m256i *)(to + j / 2), _mm512_cvtsepi32_epi16(ISA(rounded)(x + j, by)));
    return back[0];
}

/* A = x (rows x k), k in sixteens. */
static Left ISA(left)(float *room, const float *x, long ld_, int rows, int k) {
    const int deep = CUT(k);
    float *scale = room + (long)rows * (k / 2);
    for (int i = 0; i < rows; i++)
        for (int from = 0; from < k; from += deep)
            scale[from / deep * rows + i] = ISA(rounded_row)(room + ((long)i * k + from) / 2, x + i * ld_ + from, k - from < deep ? k - from : deep);
    return (Left){room, MR * (k / 2), k / 2, 1, scale};
}

/* The scales of `columns` columns, in sixteens and at most N of them, of x's rows from .. end - 1. */
#define COLUMNS(N) \
    vec by[N], back[N]; \
    for (int v = 0; v < N; v++) by[v] = (vec){0}; \
    for (int t = from; t < end; t++) \
        for (int v = 0; v < columns; v++) { \
            const vec now = ld(x + t * ld_ + first + v * VL); \
            by[v] += now * now; \
        } \
    for (int v = 0; v < columns; v++) by[v] = ISA(scaled)(by[v], back + v);

/* A = x^T of x (k x n), whose rows are there up to a multiple of sixteen. */
static Left ISA(left_turned)(float *room, const float *x, long ld_, int k, int n) {
    const int deep = CUT(k), pairs = (k + 1) / 2;
    float *scale = room + (long)UP(n, MR) * pairs;
    for (int from = 0; from < k; from += deep)
        for (int first = 0; first < n; first += VL * MR) { /* MR vectors are VL tiles */
            const int end = from + deep < k ? from + deep : k, some = n - first < VL * MR ? n - first : VL * MR, columns = (some + VL - 1) / VL;
            COLUMNS(MR)
            memcpy(scale + (long)from / deep * n + first, back, some * sizeof(float));
            for (int t = from; t < end; t += 2) {
                __m512i line[MR];
                for (int v = 0; v < columns; v++) line[v] = ISA(pairs)(x + t * ld_ + first + v * VL, t + 1 < end ? x + (t + 1) * ld_ + first + v * VL : NULL, by[v]);
                for (int i = 0; i < some; i += MR)
                    memcpy(room + ((long)(first + i) / MR * pairs + t / 2) * MR, (float *)line + i, MR * sizeof(float));
            }
        }
    return (Left){room, (long)pairs * MR, 1, MR, scale};
}

/* B(k, n) = x[k][n], n in sixteens, in panels of `whole` rows; of the last panel, what is missing of its columns is 0, what is
 * missing of its rows is left as it is. */
static Right ISA(right)(float *to, const float *x, long ld_, int k, int n, int whole) {
    const Right b = ISA(packed)(to, whole, n);
    for (int first = 0, from = 0, end = k; first < n; first += PANEL, to += b.panel) {
        const int columns = n - first < PANEL ? (n - first) / VL : PANEL / VL;
        COLUMNS(PANEL / VL)
        memcpy((float *)b.scale + first, back, columns * VL * sizeof(float));
        for (int t = 0; t < k; t += 2)
            for (int v = 0; v < PANEL / VL; v++)
                _mm512_storeu_si512(to + (long)t / 2 * PANEL + v * VL,
                    v >= columns ? _mm512_setzero_si512() : ISA(pairs)(x + t * ld_ + first + v * VL, t + 1 < k ? x + (t + 1) * ld_ + first + v * VL : NULL, by[v]));
    }
    return b;
}

/* B(k, n) = x[n][k], k in sixteens, in panels; sixteen k at a time, so that what is written stays near. */
static Right ISA(right_turned)(float *to, const float *x, long ld_, int k, int n) {
    const Right b = ISA(packed)(to, k, n);
    float *scale = (float *)b.scale;
    for (int first = 0; first < n; first += PANEL, to += b.panel) {
        vec by[PANEL];
        for (int i = 0; i < PANEL; i++) {
            vec squares = {0}, back;
            for (int j = 0; first + i < n && j < k; j += VL) squares += ld(x + (first + i) * ld_ + j) * ld(x + (first + i) * ld_ + j);
            by[i] = ISA(scaled)((vec){0} + _mm512_reduce_add_ps((__m512)squares), &back);
            scale[first + i] = back[0];
        }
        for (int j = 0; j < k; j += VL)
            for (int i = 0; i < PANEL; i++) {
                float eight[VL / 2] = {0};
                if (first + i < n) _mm256_storeu_si256((__m256i *)eight, _mm512_cvtsepi32_epi16(ISA(rounded)(x + (first + i) * ld_ + j, by[i])));
                for (int t = 0; t < VL / 2; t++) memcpy(to + (j / 2 + t) * PANEL + i, eight + t, sizeof(float)); /* whatever number that would be */
            }
    }
    return b;
}
#undef COLUMNS
