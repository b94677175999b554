/* Attention in blocks of products (`blocks.h`): what FlashAttention computes (Dao et al. 2022, arXiv 2205.14135,
 * algorithm 4), scores in float and never written to memory as a whole.
 *
 * Queries are taken 32 at a time with all keys that they see. Right factors are paired by rows, or by columns of what is
 * transposed. */

#if !defined(__AVX512BF16__) || !defined(__AVX512BW__)
int attention_by(int wanted) {
    (void)wanted;
    return 0;
}
#else

#include <math.h>
#include <stdlib.h>

#include "blocks.h"
#include "numbers.h"

enum { MANY = 256 };

/* A sequence of `real` tokens, worked on as one of `length`, a multiple of 32, with nothing in the rest. */
typedef struct {
    int64_t real, length, width;
    float scale;
} shape;

/* From now on by the best means there are up to those wanted (1: vectors, 2: the matrix unit); those that are taken, 0
 * for none. */
int attention_by(int wanted) {
    int best = best_means();
    means = wanted < best ? wanted : best;
    return means;
}

/* Where the same pair of columns stands in 16 lines, counted in pairs. */
static inline __m512i lines_of(int64_t step) {
    return _mm512_mullo_epi32(_mm512_set1_epi32((int)step / PAIR),
                              _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

/* x [length, width] to pairs of its columns, [width / 2, length] of two numbers each: the right factor x^T. */
static void pair_columns(const bf16 *x, int64_t step, int64_t length, int64_t width, uint32_t *out) {
    const __m512i lines = lines_of(step);
    for (int64_t l = 0; l < length; l += TILE)
        for (int64_t w = 0; w < width / PAIR; w++)
            _mm512_storeu_si512(out + w * length + l,
                                _mm512_i32gather_epi32(lines, (const int *)(x + l * step) + w, 4));
}

/* x [length, width] to pairs of its rows, [length / 2, width] of two numbers each: the right factor x. */
static void pair_rows(const bf16 *x, int64_t step, int64_t length, int64_t width, uint32_t *out) {
    for (int64_t l = 0; l < length; l += PAIR)
#pragma omp simd
        for (int64_t w = 0; w < width; w++)
            out[l / PAIR * width + w] = (uint32_t)x[l * step + w] | (uint32_t)x[(l + 1) * step + w] << 16;
}

/* x [length, width] to its transpose: pairs of its columns, and then both of a pair. */
static void turn(const bf16 *x, int64_t step, int64_t length, int64_t width, bf16 *out) {
    const __m512i lines = lines_of(step);
    for (int64_t l = 0; l < length; l += TILE)
        for (int64_t w = 0; w < width; w += PAIR) {
            __m512i both = _mm512_i32gather_epi32(lines, (const int *)(x + l * step + w), 4);
            _mm256_storeu_si256((__m256i *)(out + w * length + l), _mm512_cvtepi32_epi16(both));
            _mm256_storeu_si256((__m256i *)(out + (w + 1) * length + l),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
        }
}

/* What a thread works with. */
typedef struct {
    uint32_t *keys_t, *values_t, *keys, *chances, *moved_p;
    bf16 *queries_t, *rise_t, *moved, *query, *rise;
    float *scores, *rises, *of_keys, *of_values, *few, *delta, *log_sum;
} room;

static void *more(char **at, int64_t bytes) {
    void *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static char *furnish(room *r, int64_t length, int64_t width) {
    int64_t all = length * width, some = QUERIES * length, many = (length < MANY ? length : MANY) * length;
    char *whole = aligned_alloc(64, (size_t)((all * 22 + some * 10 + many * 4 + QUERIES * width * 4 + length * 8 + 64 * 20) / 64 * 64));
    char *at = whole;
    if (!whole) return NULL;
    r->keys_t = more(&at, all * 2), r->values_t = more(&at, all * 2), r->keys = more(&at, all * 2);
    r->queries_t = more(&at, all * 2), r->rise_t = more(&at, all * 2);
    r->of_keys = more(&at, all * 4), r->of_values = more(&at, all * 4);
    r->scores = more(&at, some * 4), r->rises = more(&at, some * 4);
    r->chances = more(&at, many * 2), r->moved_p = more(&at, many * 2), r->moved = more(&at, some * 2);
    r->few = more(&at, QUERIES * width * 4), r->delta = more(&at, length * 4), r->log_sum = more(&at, length * 4);
    r->query = more(&at, all * 2), r->rise = more(&at, all * 2);
    return whole;
}

/* e^x, 0 below -87; see numbers.h. */
static inline __m512 powers(__m512 x) {
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), rest);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, rest), rest, rest), _mm512_set1_ps(1.0f));
    __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(some, p, n);
}

/* Two lines of floats as bf16: the first's sixteen and then the second's. */
static inline __m512i both(__m512 first, __m512 second) {
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* How many keys a query sees, from the first on: with a mask those that it lets through are among all. */
static inline int64_t sees(const shape *s, const float *added, int64_t query) {
    return !added ? query + 1 : query < s->real ? s->real : 0;
}

static inline __mmask16 first_of(int64_t left) {
    return left >= TILE ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

/* The tokens of one head next to each other, and nothing behind them. */
static void lay(const shape *s, const bf16 *x, int64_t step, bf16 *out) {
    for (int64_t l = 0; l < s->real; l++) memcpy(out + l * s->width, x + l * step, (size_t)s->width * sizeof(bf16));
    memset(out + s->real * s->width, 0, (size_t)((s->length - s->real) * s->width) * sizeof(bf16));
}

/* Probabilities and the gradient by the scores, of the queries `query` and the next, lines `row` and the next of the
 * scores: both paired, into line `pair`, the latter as rows as well. */
static inline void middle(const room *r, const shape *s, int64_t query, int64_t row, int64_t pair, int64_t keys,
                          const float *added) {
    const __m512i mixed = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512 times = _mm512_set1_ps(s->scale);
    const int64_t length = s->length;
    for (int64_t at = 0; at < keys; at += TILE) {
        __m512 chance[PAIR], moved[PAIR];
        for (int q = 0; q < PAIR; q++) {
            int64_t place = (row + q) * length + at;
            __mmask16 some = first_of(sees(s, added, query + q) - at);
            __m512 less = _mm512_set1_ps(-r->log_sum[query + q]), base = _mm512_set1_ps(r->delta[query + q]);
            if (added)
                less = _mm512_add_ps(less, _mm512_maskz_loadu_ps(some, added + (query + q) * s->real + at));
            chance[q] = _mm512_maskz_mov_ps(some, powers(_mm512_fmadd_ps(_mm512_loadu_ps(r->scores + place), times, less)));
            moved[q] = _mm512_mul_ps(chance[q], _mm512_sub_ps(_mm512_loadu_ps(r->rises + place), base));
        }
        __m512i rows = both(moved[0], moved[1]);
        bf16 *to = r->moved + row * length + at;
        _mm256_storeu_si256((__m256i *)to, _mm512_castsi512_si256(rows));
        _mm256_storeu_si256((__m256i *)(to + length), _mm512_extracti64x4_epi64(rows, 1));
        _mm512_storeu_si512(r->moved_p + pair * length + at, _mm512_permutexvar_epi16(mixed, rows));
        _mm512_storeu_si512(r->chances + pair * length + at, _mm512_permutexvar_epi16(mixed, both(chance[0], chance[1])));
    }
}

/* One head: where its queries stand, what came of them, and where their gradient goes. */
typedef struct {
    const bf16 *query, *rise, *out;
    int64_t query_step, rise_step, out_step, of_step;
    const float *added, *log_sum;
    bf16 *of_query;
} head;

/* Gradients by 32 queries from `first` on, and what those by keys and values are made of, kept from line `line` on. */
static void some_queries(const room *r, const shape *s, const head *h, int64_t first, int64_t line) {
    int64_t length = s->length, width = s->width, keys = h->added ? length : first + QUERIES;
    for (int64_t key = 0; key < keys; key += 2 * TILE) {
        block(r->query + first * width, width * 2, 64, r->keys_t + key, length * 4, length * 64, width,
              r->scores + key, length * 4, 0);
        block(r->rise + first * width, width * 2, 64, r->values_t + key, length * 4, length * 64, width,
              r->rises + key, length * 4, 0);
    }
    for (int64_t row = 0; row < QUERIES; row += PAIR)
        middle(r, s, first + row, row, line + row / PAIR, keys, h->added);
    for (int64_t w = 0; w < width; w += 2 * TILE)
        block(r->moved, length * 2, 64, r->keys + w, width * 4, width * 64, keys, r->few + w, width * 4, 0);
    for (int64_t row = 0; row < QUERIES && first + row < s->real; row++) {
        bf16 *to = h->of_query + (first + row) * h->of_step;
#pragma omp simd
        for (int64_t w = 0; w < width; w++) to[w] = narrow(r->few[row * width + w] * s->scale);
    }
}

/* What of a head is needed beside its keys and values. */
static void lay_head(const room *r, const shape *s, const head *h) {
    lay(s, h->query, h->query_step, r->query);
    lay(s, h->rise, h->rise_step, r->rise);
    turn(r->query, s->width, s->length, s->width, r->queries_t);
    turn(r->rise, s->width, s->length, s->width, r->rise_t);
    for (int64_t l = 0; l < s->length; l++) {
        float sum = 0.0f;
        if (l < s->real) {
#pragma omp simd reduction(+ : sum)
            for (int64_t w = 0; w < s->width; w++)
                sum += wide(h->rise[l * h->rise_step + w]) * wide(h->out[l * h->out_step + w]);
        }
        r->delta[l] = sum;
        r->log_sum[l] = l < s->real ? h->log_sum[l] : 0.0f;
    }
}

/* One head's queries; what it brings for keys and values, transposed, is added up. */
static void head_back(const room *r, const shape *s, const head *h) {
    int64_t length = s->length, width = s->width;
    lay_head(r, s, h);
    for (int64_t from = 0; from < length; from += MANY) {
        int64_t end = from + MANY < length ? from + MANY : length;
        for (int64_t first = from; first < end; first += QUERIES) some_queries(r, s, h, first, (first - from) / PAIR);
        for (int64_t key = 0; key < (h->added ? length : end); key += 2 * TILE) {
            int64_t first = h->added || key < from ? from : key, line = (first - from) / PAIR * length + key;
            for (int64_t w = 0; w < width; w += 2 * TILE) {
                block(r->rise_t + w * length + first, length * 2, 64, r->chances + line, length * 4, length * 64,
                      end - first, r->of_values + w * length + key, length * 4, 1);
                block(r->queries_t + w * length + first, length * 2, 64, r->moved_p + line, length * 4, length * 64,
                      end - first, r->of_keys + w * length + key, length * 4, 1);
            }
        }
    }
}

/* A sum [width, length] into [tokens, width]. */
static void put(const shape *s, const float *sum, float scale, bf16 *out, int64_t step) {
    for (int64_t l = 0; l < s->real; l++)
        for (int64_t w = 0; w < s->width; w++) out[l * step + w] = narrow(sum[w * s->length + l] * scale);
}

/* Probabilities of 32 queries from `first` on, not yet divided by their sums, which go into `sums`, with the log of
 * each into `log_sum`. */
static void chances_of(const room *r, const shape *s, int64_t first, int64_t keys, const float *added, float *sums) {
    const __m512 times = _mm512_set1_ps(s->scale), none = _mm512_set1_ps(-INFINITY);
    for (int64_t row = 0; row < QUERIES; row++) {
        float *score = r->scores + row * s->length;
        int64_t seen = sees(s, added, first + row);
        __m512 most = none, sum = _mm512_setzero_ps();
        for (int64_t at = 0; at < keys; at += TILE) {
            __mmask16 some = first_of(seen - at);
            __m512 one = _mm512_mul_ps(_mm512_loadu_ps(score + at), times);
            if (added)
                one = _mm512_add_ps(one, _mm512_maskz_loadu_ps(some, added + (first + row) * s->real + at));
            one = _mm512_mask_mov_ps(none, some, one);
            _mm512_storeu_ps(score + at, one);
            most = _mm512_max_ps(most, one);
        }
        float top = _mm512_reduce_max_ps(most);
        top = top == -INFINITY ? 0.0f : top;
        for (int64_t at = 0; at < keys; at += TILE) {
            __m512 one = powers(_mm512_sub_ps(_mm512_loadu_ps(score + at), _mm512_set1_ps(top)));
            sum = _mm512_add_ps(sum, one);
            _mm256_storeu_si256((__m256i *)(r->moved + row * s->length + at), (__m256i)_mm512_cvtneps_pbh(one));
        }
        sums[row] = _mm512_reduce_add_ps(sum);
        r->log_sum[first + row] = logf(sums[row]) + top;
    }
}

/* One head's results, and of each of its queries the log of the sum. */
static void head_out(const room *r, const shape *s, const bf16 *query, int64_t step, const float *added, bf16 *out,
                     int64_t out_step) {
    int64_t length = s->length, width = s->width;
    lay(s, query, step, r->query);
    for (int64_t first = 0; first < length; first += QUERIES) {
        int64_t keys = added ? length : first + QUERIES;
        float sums[QUERIES];
        for (int64_t key = 0; key < keys; key += 2 * TILE)
            block(r->query + first * width, width * 2, 64, r->keys_t + key, length * 4, length * 64, width,
                  r->scores + key, length * 4, 0);
        chances_of(r, s, first, keys, added, sums);
        for (int64_t w = 0; w < width; w += 2 * TILE)
            block(r->moved, length * 2, 64, r->keys + w, width * 4, width * 64, keys, r->few + w, width * 4, 0);
        for (int64_t row = 0; row < QUERIES && first + row < s->real; row++) {
            float by = sums[row] > 0.0f ? 1.0f / sums[row] : sums[row];
            bf16 *to = out + (first + row) * out_step;
#pragma omp simd
            for (int64_t w = 0; w < width; w++) to[w] = narrow(r->few[row * width + w] * by);
        }
    }
}

/* Where a sequence stands: which of the batch, its first token there, how many. */
typedef struct {
    int64_t batch, first, tokens;
} place;

static int64_t longest(const place *places, int64_t n) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) most = places[i].tokens > most ? places[i].tokens : most;
    return (most + QUERIES - 1) / QUERIES * QUERIES;
}

static shape shape_of(const place *p, int64_t width, float scale) {
    shape s = {p->tokens, (p->tokens + QUERIES - 1) / QUERIES * QUERIES, width, scale};
    return s;
}

/* `n` sequences. Queries and results are [B, H, L, D] in bf16, keys and values [B, K, L, D], D a multiple of 32. `step`
 * has those of the first three dimensions, in elements, of query, key, value and result. A token sees those of its
 * sequence up to itself, or, with `added` [B or 1, L, L], of sequences as long as L, those where it is not -inf; `next`
 * is the step between such masks. `log_sum` [B, H, L] is each query's log of its sum. 1 where memory is short. */
int attention_out(const bf16 *query, const bf16 *key, const bf16 *value, const int64_t *step, const float *added,
                  int64_t next, float scale, bf16 *out, float *log_sum, const place *places, int64_t n, int64_t heads,
                  int64_t shared, int64_t length, int64_t width, int threads) {
    const int64_t each = heads / shared, most = longest(places, n);
    int short_of = 0;
#pragma omp parallel num_threads(threads) reduction(| : short_of)
    {
        room r = {0};
        char *whole = furnish(&r, most, width);
        short_of = !whole;
        if (whole) begin_blocks();
#pragma omp for schedule(dynamic)
        for (int64_t one = 0; one < n * shared; one++) {
            if (!whole) continue;
            const place *p = places + one / shared;
            const shape s = shape_of(p, width, scale);
            int64_t b = p->batch, f = p->first, k = one % shared;
            lay(&s, key + b * step[3] + k * step[4] + f * step[5], step[5], r.rise);
            pair_columns(r.rise, width, s.length, width, r.keys_t);
            lay(&s, value + b * step[6] + k * step[7] + f * step[8], step[8], r.rise);
            pair_rows(r.rise, width, s.length, width, r.keys);
            for (int64_t i = k * each; i < (k + 1) * each; i++) {
                head_out(&r, &s, query + b * step[0] + i * step[1] + f * step[2], step[2],
                         added ? added + b * next : NULL, out + b * step[9] + i * step[10] + f * step[11], step[11]);
                memcpy(log_sum + (b * heads + i) * length + f, r.log_sum, (size_t)s.real * sizeof(float));
            }
        }
        if (whole) end_blocks();
        free(whole);
    }
    return short_of;
}

/* Gradients by queries, keys and values. `step` goes on with those of the result's gradient and of the three; all else
 * is as above. */
int attention_back(const bf16 *query, const bf16 *key, const bf16 *value, const bf16 *out, const bf16 *rise,
                   const int64_t *step, const float *added, int64_t next, float scale, const float *log_sum,
                   bf16 *of_query, bf16 *of_key, bf16 *of_value, const place *places, int64_t n, int64_t heads,
                   int64_t shared, int64_t length, int64_t width, int threads) {
    const int64_t each = heads / shared, most = longest(places, n);
    int short_of = 0;
#pragma omp parallel num_threads(threads) reduction(| : short_of)
    {
        room r = {0};
        char *whole = furnish(&r, most, width);
        short_of = !whole;
        if (whole) begin_blocks();
#pragma omp for schedule(dynamic)
        for (int64_t one = 0; one < n * shared; one++) {
            if (!whole) continue;
            const place *p = places + one / shared;
            const shape s = shape_of(p, width, scale);
            int64_t b = p->batch, f = p->first, k = one % shared;
            lay(&s, key + b * step[3] + k * step[4] + f * step[5], step[5], r.rise);
            pair_columns(r.rise, width, s.length, width, r.keys_t);
            pair_rows(r.rise, width, s.length, width, r.keys);
            lay(&s, value + b * step[6] + k * step[7] + f * step[8], step[8], r.rise);
            pair_columns(r.rise, width, s.length, width, r.values_t);
            memset(r.of_keys, 0, (size_t)(s.length * width) * sizeof(float));
            memset(r.of_values, 0, (size_t)(s.length * width) * sizeof(float));
            for (int64_t i = k * each; i < (k + 1) * each; i++) {
                const head h = {
                    query + b * step[0] + i * step[1] + f * step[2], rise + b * step[12] + i * step[13] + f * step[14],
                    out + b * step[9] + i * step[10] + f * step[11], step[2], step[14], step[11], step[17],
                    added ? added + b * next : NULL, log_sum + (b * heads + i) * length + f,
                    of_query + b * step[15] + i * step[16] + f * step[17],
                };
                head_back(&r, &s, &h);
            }
            put(&s, r.of_keys, scale, of_key + b * step[18] + k * step[19] + f * step[20], step[20]);
            put(&s, r.of_values, 1.0f, of_value + b * step[21] + k * step[22] + f * step[23], step[23]);
        }
        if (whole) end_blocks();
        free(whole);
    }
    return short_of;
}
#endif
