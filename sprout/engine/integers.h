/* Rows of 16-bit integers, whose products processors with VNNI sum up at twice the rate of float32, and which are half as many
 * bytes to read: kernels.h includes this file for the kind of kernels that multiplies them.
 *
 * Each row of x, and each row of a matrix, is scaled to the length LONGEST and rounded. That is off by some ten-thousandths of
 * what is usual in the row, where bfloat16 is off by some thousandths of each number; and no sum leaves 32 bits: none is larger
 * than the product of the two lengths (Cauchy and Schwarz), to which rounding adds next to nothing. sprout/optim/integers.h does
 * the same for training.
 *
 * Channels 2t and 2t + 1 lie in the place of a float, a unit of the sum. The matrix rows' scales stand behind their panel. */
#define LONGEST 32767.0f

/* x (n,) scaled and rounded, to units (ROOM(n),), with zeros behind them; what brings it back, or, unless eps is PLAIN, to a root
 * mean square of 1. A row of zeros stays so; what is not finite, or too long for its length to be, comes back as no finite number. */
static TARGET float NAME(rounded_row)(float *to, const float *x, long n, float eps) {
    VECTOR squares[4] = {{0}, {0}, {0}, {0}};
    long whole = n / W * W, i = 0;
    const VECTOR rest = (VECTOR)_mm512_maskz_loadu_ps((__mmask16)((1 << (n - whole)) - 1), x + whole); /* none, or some and zeros */
    for (; i + 4 * W <= whole; i += 4 * W)
        UNROLL for (int j = 0; j < 4; j++) squares[j] += LOAD(x + i + j * W) * LOAD(x + i + j * W);
    for (; i < whole; i += W) squares[0] += LOAD(x + i) * LOAD(x + i);
    squares[1] += rest * rest;
    float length = sqrtf(_mm512_reduce_add_ps((__m512)((squares[0] + squares[1]) + (squares[2] + squares[3]))));
    float by = length != 0 ? LONGEST / length : 0;
#define ROUND(v) _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32((__m512)((v) * by)))
    for (i = 0; i < whole; i += W) _mm256_storeu_si256((__m256i *)(to + i / 2), ROUND(LOAD(x + i)));
    if (whole < n) _mm256_storeu_si256((__m256i *)(to + whole / 2), ROUND(rest));
#undef ROUND
    return length / LONGEST / (eps == PLAIN ? 1 : sqrtf(length * length / (float)n + eps));
}

/* A sum that goes on with the products of both halves. */
#define ADD(sum, weight, x) ((VECTOR)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(weight), (__m512i)_mm512_set1_ps(x)))
/* After a loop, so that GCC 12 keeps the sums in registers meanwhile; it would write them to memory at every step. */
#define SETTLE(sum) __asm__("" : "+v"(sum))
/* What a sum means, but for the scale of x's row. */
#define MEANT(sums, scales) (__builtin_convertvector((INTS)LOAD(sums), VECTOR) * LOAD(scales))

/* Keys and values are floats of 16 bits: half as many bytes to read, too, and off by as little. A value of more than 65,504 is none. */
#define KEPT uint16_t
#define FETCH(p) ((VECTOR)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p))))
#define ONE(x) _cvtsh_ss(x)
#define PUT(p, v) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph((__m512)(v), 0))
#define PUT_ONE(p, x) (*(p) = _cvtss_sh(x, 0))
