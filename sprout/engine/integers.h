/* Rows of 16-bit integers, whose products processors with VNNI sum up at twice the rate of float32, and which are half as many
 * bytes to read: kernels.h includes this file for the kind of kernels that multiplies them.
 *
 * Each row of x, and each row of a matrix, is scaled to the length LONGEST and rounded. That is off by a ten-thousandth of what
 * is usual in the row, where bfloat16 is off by some thousandths of each number; and no sum leaves 32 bits: none is larger than
 * the product of the two lengths (Cauchy and Schwarz). sprout/optim/integers.h does the same for training.
 *
 * Channels 2t and 2t + 1 lie in the place of a float, a unit of the sum. The matrix rows' scales stand behind their panel. */
#define LONGEST 32767.0f

/* At most the next n of W numbers, then zeros. */
static INLINE TARGET VECTOR NAME(next)(const float *x, long n) {
    return (VECTOR)_mm512_maskz_loadu_ps((__mmask16)(n >= W ? 0xFFFF : n > 0 ? (1 << n) - 1 : 0), x);
}

/* x (n,) scaled and rounded, to units (ROOM(n),), with zeros behind them; what brings it back. A row of zeros stays so; what is
 * not finite, or too long for its length to be, comes back as no finite number. */
static TARGET float NAME(rounded_row)(float *to, const float *x, long n) {
    VECTOR squares[4] = {{0}, {0}, {0}, {0}};
    for (long i = 0; i < n; i += 4 * W)
        UNROLL for (int j = 0; j < 4; j++) {
            VECTOR v = NAME(next)(x + i + j * W, n - i - j * W);
            squares[j] += v * v;
        }
    float length = sqrtf(NAME(total)((squares[0] + squares[1]) + (squares[2] + squares[3]))), by = length != 0 ? LONGEST / length : 0;
    for (long i = 0; i < n; i += W) {
        __m512i whole = _mm512_cvtps_epi32((__m512)(NAME(next)(x + i, n - i) * by));
        _mm256_storeu_si256((__m256i *)(to + i / 2), _mm512_cvtsepi32_epi16(whole));
    }
    return length / LONGEST;
}

/* The rows of x (B, n) one after the other, in `room` behind their scales (B,), each times what `scale` (B,) says if it is there. */
static TARGET const float *NAME(rounded_rows)(float *room, const float *x, long B, long n, const float *scale) {
    float *rows = room + B;
    for (long b = 0; b < B; b++) room[b] = NAME(rounded_row)(rows + b * ROOM(n), x + b * n, n) * (scale ? scale[b] : 1);
    return rows;
}

/* A sum that goes on with the products of both halves. */
#define ADD(sum, weight, x) ((VECTOR)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(weight), (__m512i)_mm512_set1_ps(x)))
/* After a loop, so that GCC 12 keeps the sums in registers meanwhile; it would write them to memory at every step. */
#define SETTLE(sum) __asm__("" : "+v"(sum))
/* What a sum means, but for the scale of x's row. */
#define MEANT(sums, scales) (__builtin_convertvector((INTS)LOAD(sums), VECTOR) * LOAD(scales))
