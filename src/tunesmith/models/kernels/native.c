/* What a training step computes between its matrix products, in one pass over memory each: bf16 in and out, float
 * between. Compiled by `native.py` for the processor that it runs on; every function has its like in torch beside it.
 *
 * Rows are dealt out to threads, and no sum crosses a row: the result does not depend on their number. */

#include "numbers.h"

/* Root mean square normalisation of rows [n, width]: x / sqrt(mean(x^2) + eps) * weight; `scale` [n] is kept. */
void norm_forward(const bf16 *x, const bf16 *weight, float eps, bf16 *out, float *scale, int64_t n, int64_t width,
                  int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < n; row++) {
        const bf16 *from = x + row * width;
        bf16 *to = out + row * width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += wide(from[i]) * wide(from[i]);
        float by = 1.0f / sqrtf(sum / (float)width + eps);
        scale[row] = by;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = narrow(wide(weight[i]) * wide(narrow(wide(from[i]) * by)));
    }
}

/* Its gradient by x, from that by what came out. */
void norm_backward(const bf16 *x, const bf16 *weight, const float *scale, const bf16 *gradient, bf16 *of_x, int64_t n,
                   int64_t width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < n; row++) {
        const bf16 *from = x + row * width, *by = gradient + row * width;
        bf16 *to = of_x + row * width;
        float inner = 0.0f, one = scale[row];
#pragma omp simd reduction(+ : inner)
        for (int64_t i = 0; i < width; i++) inner += wide(by[i]) * wide(weight[i]) * wide(from[i]);
        float along = inner * one * one / (float)width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = narrow(one * (wide(by[i]) * wide(weight[i]) - wide(from[i]) * along));
    }
}

/* silu(gate) * up, all [n]. */
void gated_forward(const bf16 *gate, const bf16 *up, bf16 *out, int64_t n, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = wide(gate[i]);
        out[i] = narrow(wide(narrow(x / (1.0f + power(-x)))) * wide(up[i]));
    }
}

/* Its gradients by gate and up. */
void gated_backward(const bf16 *gate, const bf16 *up, const bf16 *gradient, bf16 *of_gate, bf16 *of_up, int64_t n,
                    int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = wide(gate[i]), by = wide(gradient[i]);
        float share = 1.0f / (1.0f + power(-x));
        of_up[i] = narrow(by * x * share);
        of_gate[i] = narrow(by * wide(up[i]) * share * (1.0f + x * (1.0f - share)));
    }
}

/* Rotary positions: x and out [batch, heads, length, 2 * half], the last dimension without gaps, the steps of the first
 * three given in elements; cosines and sines [batch or 1, length, 2 * half]. `back` is the gradient's way. */
void rotate(const bf16 *x, const int64_t *step, const float *cosine, const float *sine, int64_t angles, bf16 *out,
            const int64_t *out_step, int64_t batch, int64_t heads, int64_t length, int64_t half, int back,
            int threads) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t l = 0; l < length; l++) {
            const float *c = cosine + b * angles + l * 2 * half, *s = sine + b * angles + l * 2 * half;
            for (int64_t h = 0; h < heads; h++) {
                const bf16 *from = x + b * step[0] + h * step[1] + l * step[2];
                bf16 *to = out + b * out_step[0] + h * out_step[1] + l * out_step[2];
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    float first = wide(from[i]), second = wide(from[i + half]);
                    float down = back ? s[i + half] : -s[i], up = back ? -s[i] : s[i + half];
                    to[i] = narrow(first * c[i] + second * down);
                    to[i + half] = narrow(second * c[i + half] + first * up);
                }
            }
        }
}

/* Between the products of attention's backward pass. scores [n, keys] less each row's log of its sum; `rise` [n, keys]
 * is the gradient by the probabilities, delta [n]. Row r is query r % queries of those from `first` on. It sees the keys
 * up to itself, or, where `added` [sequences or 1, queries, keys] is given, those where it is not -inf; a sequence has
 * `rows` rows, and `next` is the step between their masks. Out come the probabilities and the gradient by the scores. */
void attention_middle(const float *scores, const bf16 *rise, const float *delta, const float *added, int64_t rows,
                      int64_t next, bf16 *chances, bf16 *moved, int64_t n, int64_t queries, int64_t keys,
                      int64_t first, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < n; row++) {
        int64_t seen = added ? keys : first + row % queries + 1, at = row * keys;
        const float *more = added ? added + row / rows * next + row % queries * keys : scores + at;
        float less = delta[row], times = added ? 1.0f : 0.0f;
#pragma omp simd
        for (int64_t i = 0; i < seen; i++) {
            float chance = power(scores[at + i] + times * more[i]);
            chances[at + i] = narrow(chance);
            moved[at + i] = narrow(chance * (wide(rise[at + i]) - less));
        }
        memset(chances + at + seen, 0, (size_t)(keys - seen) * sizeof(bf16));
        memset(moved + at + seen, 0, (size_t)(keys - seen) * sizeof(bf16));
    }
}

/* Cross entropy of tokens [n] under logits [n, words], in nats; the logits are overwritten by its gradient where
 * `learns`. */
void token_losses(bf16 *logits, const int64_t *tokens, float *losses, int64_t n, int64_t words, int learns,
                  int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < n; row++) {
        bf16 *of = logits + row * words;
        float most = -INFINITY, sum = 0.0f, own = wide(of[tokens[row]]);
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < words; i++) most = wide(of[i]) > most ? wide(of[i]) : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < words; i++) sum += power(wide(of[i]) - most);
        losses[row] = logf(sum) + most - own;
        if (!learns) continue;
        float by = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < words; i++) of[i] = narrow(power(wide(of[i]) - most) * by);
        of[tokens[row]] = narrow(power(own - most) * by - 1.0f);
    }
}
