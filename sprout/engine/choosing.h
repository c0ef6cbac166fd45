/* The next token of each row, for native.c: the same as `uniform`, `choose` and `log_probability` in sampling.py, which are to
 * be read first. V is the vocabulary. */

#define ALONE (1 << 14) /* scores that one thread looks through before others have begun */
#define CHOICE_SIZE(m) (((m)->V + 31) / 16 * 16 + ((m)->V * 2 + 15) / 16 * 16) /* floats for each thread */

#define STRIDE 64

typedef struct {
    Team team;
    const Model *m;
    long B;
    const float *logits, *scores; /* (B, V), the model's own; and what to choose by, often the same */
    const uint8_t *masks;         /* (kinds, V), 1 where a token is forbidden */
    const int64_t *kind, *top_k;  /* (B,), as all below */
    const float *temperature, *top_p, *min_p;
    const uint64_t *seed;
    const int64_t *position;
    int64_t *ids;
    float *logprobs, *own; /* own (threads, own_size) */
    long own_size;
} Choice;

static inline uint64_t mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* A number in [0, 1) that depends on seed and position only. */
static inline double uniform(uint64_t seed, int64_t position) {
    return (double)(mixed(mixed(seed) + (uint64_t)position * 0x9E3779B97F4A7C15u) >> 11) / 9007199254740992.0;
}

/* A token as a number: the greater score is the greater number, and of equal ones the lower id. */
static inline uint64_t ranked(float score, long id) {
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, 4);
    bits ^= bits >> 31 ? 0xFFFFFFFFu : 0x80000000u;
    return (uint64_t)bits << 32 | (0xFFFFFFFFu - (uint32_t)id);
}

static inline long id_of(uint64_t token) { return (long)(0xFFFFFFFFu - (uint32_t)token); }

/* Let heap[at] sink to its place among n numbers of which the greatest is to be the first. */
static void sink(uint64_t *heap, long n, long at) {
    uint64_t token = heap[at];
    for (long child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[child] <= token) break;
        heap[at] = heap[child];
    }
    heap[at] = token;
}

/* The greatest of a heap, which has one less then; it lies behind the others. */
static uint64_t pop(uint64_t *heap, long *n) {
    uint64_t first = heap[0];
    heap[0] = heap[--*n];
    heap[*n] = first;
    sink(heap, *n, 0);
    return first;
}

/* Take from `weight` (V,) all tokens that the settings leave out; it has the probabilities but for the division, and 1 is the
 * greatest. Tokens are taken from a heap, the likeliest first; only those that are likely at all are put there, and less likely
 * ones when these don't suffice. */
static void filter(const Kernels *kernels, const float *scores, float *weight, long V, long top_k, double top_p, double min_p,
                   uint64_t *heap) {
    long n = 0, kept = 0;
    double all = kernels->sum(weight, V), total, before = 0;
    for (float least = 1.0f / 16;; least = least > 1e-4f ? least / 16 : 0) {
        n = 0, total = 0;
        for (long first = 0; first < V; first += STRIDE) {
            long end = V - first < STRIDE ? V : first + STRIDE;
            if (kernels->most(weight + first, end - first) < least) continue;
            for (long i = first; i < end; i++)
                if (weight[i] > 0 && weight[i] >= least) heap[n++] = ranked(scores[i], i), total += weight[i];
        }
        if (!least || (top_k > 0 ? n >= top_k : least <= min_p || (top_p < 1 && total >= top_p * all))) break;
    }
    for (long i = n / 2 - 1; i >= 0; i--) sink(heap, n, i);
    long count = n, left = n;
    total = all;
    if (top_k > 0 && top_k <= n) { /* else these are all */
        for (total = 0; n - left < top_k;) total += weight[id_of(pop(heap, &left))];
        count = top_k;
    }
    for (; kept < count; kept++) {
        if (n - left <= kept) pop(heap, &left);
        float *w = weight + id_of(heap[n - 1 - kept]);
        if (kept && ((top_p < 1 && !(before / total < top_p)) || *w < min_p)) break;
        before += *w;
        *w = -*w; /* a mark */
    }
    for (long i = 0; i < V; i++) weight[i] = weight[i] < 0 ? -weight[i] : 0;
}

static long choose_one(const Choice *c, long b, float *weight, uint64_t *heap) {
    const Kernels *kernels = c->m->kernels;
    long V = c->m->V;
    const float *scores = c->scores + b * V;
    long likeliest = kernels->allow(scores, c->masks + c->kind[b] * V, V, weight);
    float most = weight[likeliest], heat = c->temperature[b];
    if (!(heat > 0) || !(most > -INFINITY)) return likeliest;
    kernels->exponentials(weight, V, most, heat, weight);
    if (c->top_k[b] > 0 || c->top_p[b] < 1 || c->min_p[b] > 0) filter(kernels, scores, weight, V, c->top_k[b], c->top_p[b], c->min_p[b], heap);
    double total = 0, passed = 0, next = 0;
    for (long i = 0; i < V; i += STRIDE) total += kernels->sum(weight + i, V - i < STRIDE ? V - i : STRIDE);
    double point = uniform(c->seed[b], c->position[b]) * total;
    long i = 0, last = likeliest;
    for (; i < V; i += STRIDE, passed = next) { /* by strides, until the one in which it is passed */
        next = passed + kernels->sum(weight + i, V - i < STRIDE ? V - i : STRIDE);
        if (next > point) break;
    }
    for (; i < V; i++) {
        passed += weight[i];
        if (passed > point && weight[i] > 0) return i;
        if (weight[i] > 0) last = i;
    }
    return last; /* the point is below the total, but for rounding */
}

static void choose(Team *team, int thread) {
    Choice *c = (Choice *)team;
    long V = c->m->V;
    float *weight = c->own + thread * c->own_size;
    uint64_t *heap = (uint64_t *)(weight + (V + 31) / 16 * 16);
    for (long b = thread; b < c->B; b += team->threads) {
        const float *logits = c->logits + b * V;
        long id = choose_one(c, b, weight, heap);
        float most = c->m->kernels->most(logits, V);
        c->m->kernels->exponentials(logits, V, most, 1, weight);
        c->ids[b] = id;
        c->logprobs[b] = (float)((double)logits[id] - (double)most - log(c->m->kernels->sum(weight, V)));
    }
}
