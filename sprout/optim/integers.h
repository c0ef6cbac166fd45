/* Both sides of products of 16-bit integers, which processors with VNNI compute at twice the rate of float32, and their sums
 * exactly: each part of a row of A, and each column of B, is scaled to the length LONGEST and rounded. Of k numbers the usual
 * one is then LONGEST / sqrt(k), and a rounding is off by 0.29: a seven-thousandth of it for 256, a 600th for 32,768 (bfloat16
 * loses up to a 256th of each number). No sum leaves 32 bits, since none is larger than the product of the two lengths (Cauchy
 * and Schwarz); rounding makes these longer by sqrt(k) / 2 at most, and there is room for twice LONGEST^2. Training by integers:
 * arXiv 1802.00930.
 *
 * Two integers whose products are added up next lie in the place of a float: of each 32 numbers of a sum, number t and number
 * t + 16. Beyond that both sides lie as those of float32 do. B's scales are behind its panels. */
#define LONGEST 32767.0f

/* What brings vectors of these squared lengths to LONGEST, and what brings them back; nothing has no length and stays. */
static inline vec ISA(scaled)(vec squares, vec *back) {
    const __m512 length = _mm512_sqrt_ps((__m512)squares);
    *back = (vec)length * (1 / LONGEST);
    return (vec)_mm512_maskz_div_ps(_mm512_cmp_ps_mask(length, _mm512_setzero_ps(), _CMP_NEQ_UQ), _mm512_set1_ps(LONGEST), length);
}

/* Sixteen pairs of numbers, scaled: adding 1.5 * 2^23 leaves the rounded number in a float's last bits. */
static inline __m512i ISA(pairs)(vec first, vec second, vec by) {
    const __m512i low = (__m512i)(first * by + 12582912.0f), high = (__m512i)(second * by + 12582912.0f);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16));
}

/* A = x (rows x k), k in thirty-twos. */
static inline Left ISA(left)(float *room, const float *x, long ld_, int rows, int k) {
    const int deep = CUT(k);
    float *to = room, *scale = room + (long)rows * (k / 2);
    for (int i = 0; i < rows; i++, x += ld_)
        for (int from = 0; from < k; from += deep) {
            const int end = from + deep < k ? from + deep : k;
            vec squares = {0}, back;
            for (int j = from; j < end; j += VL) squares += ld(x + j) * ld(x + j);
            const vec by = ISA(scaled)((vec){0} + _mm512_reduce_add_ps((__m512)squares), &back);
            for (int j = from; j < end; j += 2 * VL, to += VL) _mm512_storeu_si512(to, ISA(pairs)(ld(x + j), ld(x + j + VL), by));
            scale[from / deep * rows + i] = back[0];
        }
    return (Left){room, MR * (k / 2), k / 2, 1, scale};
}

/* The scales of some columns of x, N vectors at most, from its row `from` to the one before `end`. */
#define COLUMNS(N) \
    vec by[N], back[N]; \
    for (int v = 0; v < N; v++) by[v] = (vec){0}; \
    for (int t = from; t < end; t++) \
        for (int v = 0; v < columns; v++) { \
            const vec now = ld(x + t * ld_ + first + v * VL); \
            by[v] += now * now; \
        } \
    for (int v = 0; v < columns; v++) by[v] = ISA(scaled)(by[v], back + v);
/* Pairs of vector v of them: of row t, which is there or not, and row t + 16. */
#define PAIRS_AT(t, v) \
    ISA(pairs)((t) < end ? ld(x + (t) * ld_ + first + (v) * VL) : (vec){0}, (t) + VL < end ? ld(x + ((t) + VL) * ld_ + first + (v) * VL) : (vec){0}, by[v])

/* A = x^T of x (k x n), whose rows are there up to a multiple of sixteen. */
static inline Left ISA(left_turned)(float *room, const float *x, long ld_, int k, int n) {
    const int deep = CUT(k), units = UNIT(k);
    float *scale = room + (long)UP(n, MR) * units;
    for (int from = 0; from < k; from += deep)
        for (int first = 0; first < n; first += VL * MR) { /* MR vectors are VL tiles */
            const int end = from + deep < k ? from + deep : k, some = n - first < VL * MR ? n - first : VL * MR, columns = (some + VL - 1) / VL;
            COLUMNS(MR)
            memcpy(scale + (long)from / deep * n + first, back, some * sizeof(float));
            for (int u = from / 2; u < UNIT(end); u++) {
                __m512i line[MR + 1]; /* a tile is read as eight */
                for (int v = 0; v < columns; v++) line[v] = PAIRS_AT(u + u / VL * VL, v);
                for (int i = 0; i < some; i += MR)
                    _mm256_mask_storeu_epi32(room + ((long)(first + i) / MR * units + u) * MR, (1 << MR) - 1, _mm256_loadu_si256((__m256i *)((int *)line + i)));
            }
        }
    return (Left){room, (long)units * MR, 1, MR, scale};
}

/* B(k, n) = x[k][n], n in sixteens, in panels of `whole` rows; of the last panel, what is missing of its columns is 0, what is
 * missing of its rows is left as it is. */
static inline Right ISA(right)(float *to, const float *x, long ld_, int k, int n, int whole) {
    const Right b = ISA(packed)(to, whole, n);
    for (int first = 0, from = 0, end = k; first < n; first += PANEL, to += b.panel) {
        const int columns = n - first < PANEL ? (n - first) / VL : PANEL / VL;
        COLUMNS(PANEL / VL)
        memcpy((float *)b.scale + first, back, columns * VL * sizeof(float));
        for (int u = 0; u < UNIT(k); u++)
            for (int v = 0; v < PANEL / VL; v++)
                _mm512_storeu_si512(to + (long)u * PANEL + v * VL, v < columns ? PAIRS_AT(u + u / VL * VL, v) : _mm512_setzero_si512());
    }
    return b;
}

/* B(k, n) = x[n][k], k in thirty-twos, in panels; so many k at a time that what is written stays near. */
static inline Right ISA(right_turned)(float *to, const float *x, long ld_, int k, int n) {
    const Right b = ISA(packed)(to, k, n);
    for (int first = 0; first < n; first += PANEL, to += b.panel) {
        vec by[PANEL], back;
        for (int i = 0; i < PANEL; i++) {
            const float *row = x + (first + i) * ld_;
            vec squares = {0};
            for (int j = 0; first + i < n && j < k; j += VL) squares += ld(row + j) * ld(row + j);
            by[i] = ISA(scaled)((vec){0} + _mm512_reduce_add_ps((__m512)squares), &back);
            ((float *)b.scale)[first + i] = back[0];
        }
        for (int j = 0; j < k; j += 2 * VL)
            for (int i = 0; i < PANEL; i++) {
                const float *row = x + (first + i) * ld_;
                __m512i line = _mm512_setzero_si512();
                if (first + i < n) line = ISA(pairs)(ld(row + j), ld(row + j + VL), by[i]);
                for (int t = 0; t < VL; t++) memcpy(to + (j / 2 + t) * PANEL + i, (float *)&line + t, sizeof(float)); /* whatever number that would be */
            }
    }
    return b;
}
#undef COLUMNS
#undef PAIRS_AT
