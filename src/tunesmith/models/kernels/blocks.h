/* Products of blocks in bf16, by the processor's matrix unit (AMX) or, where it has none, by its vectors (AVX-512 with
 * products of pairs). A tile of the unit is 16 rows of 64 bytes. The right factor of a product has pairs of its rows in
 * one line, which is called "paired" everywhere; the vectors want it as the unit does. */

#ifndef BLOCKS_H
#define BLOCKS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE = 16, QUERIES = 32, PAIR = 2, ROWS = 8 };
enum { NOTHING, VECTORS, UNIT };

/* What products are made by, for the whole process. */
static int means = NOTHING;

/* Linux gives a process the unit's registers when it asks (ARCH_REQ_XCOMP_PERM for XTILEDATA). */
static int best_means(void) {
#ifdef __AMX_BF16__
    if (syscall(SYS_arch_prctl, 0x1023, 18) == 0) return UNIT;
#endif
    return VECTORS;
}

/* A thread begins, and ends, to make products. */
static void begin_blocks(void) {
#ifdef __AMX_BF16__
    struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = TILE;
    if (means == UNIT) _tile_loadconfig(&all);
#endif
}

static void end_blocks(void) {
#ifdef __AMX_BF16__
    if (means == UNIT) _tile_release();
#endif
}

#ifdef __AMX_BF16__
static inline void block_by_unit(const char *a, int64_t left_step, int64_t left_next, const char *b, int64_t right_step,
                                 int64_t right_next, int64_t depth, char *c, int64_t out_step, int onto) {
    if (onto) {
        _tile_loadd(0, c, out_step);
        _tile_loadd(1, c + 64, out_step);
        _tile_loadd(2, c + TILE * out_step, out_step);
        _tile_loadd(3, c + TILE * out_step + 64, out_step);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t at = 0; at < depth; at += 2 * TILE) {
        _tile_loadd(4, a, left_step);
        _tile_loadd(5, a + TILE * left_step, left_step);
        _tile_loadd(6, b, right_step);
        _tile_loadd(7, b + 64, right_step);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        a += left_next;
        b += right_next;
    }
    _tile_stored(0, c, out_step);
    _tile_stored(1, c + 64, out_step);
    _tile_stored(2, c + TILE * out_step, out_step);
    _tile_stored(3, c + TILE * out_step + 64, out_step);
}
#endif

/* Eight rows of the result at a time: their sums, and a line of the right factor, stay in registers. */
static inline void block_by_vectors(const char *left, int64_t left_step, int64_t left_next, const char *right,
                                    int64_t right_step, int64_t right_next, int64_t depth, char *out, int64_t out_step,
                                    int onto) {
    for (int64_t top = 0; top < QUERIES; top += ROWS) {
        const char *a = left + top * left_step, *b = right;
        char *c = out + top * out_step;
        __m512 sums[ROWS][2];
        for (int row = 0; row < ROWS; row++)
            for (int half = 0; half < 2; half++)
                sums[row][half] = onto ? _mm512_loadu_ps(c + row * out_step + half * 64) : _mm512_setzero_ps();
        for (int64_t at = 0; at < depth; at += 2 * TILE) {
            for (int line = 0; line < TILE; line++) {
                const __m512bh first = (__m512bh)_mm512_loadu_si512(b + line * right_step);
                const __m512bh second = (__m512bh)_mm512_loadu_si512(b + line * right_step + 64);
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++) {
                    int32_t pair;
                    memcpy(&pair, a + row * left_step + line * 4, sizeof pair);
                    const __m512bh all = (__m512bh)_mm512_set1_epi32(pair);
                    sums[row][0] = _mm512_dpbf16_ps(sums[row][0], all, first);
                    sums[row][1] = _mm512_dpbf16_ps(sums[row][1], all, second);
                }
            }
            a += left_next;
            b += right_next;
        }
        for (int row = 0; row < ROWS; row++)
            for (int half = 0; half < 2; half++) _mm512_storeu_ps(c + row * out_step + half * 64, sums[row][half]);
    }
}

/* out [32, 32] = left [32, depth] right [depth, 32], float; `right` is paired, steps are in bytes, those called `next`
 * from 32 columns of `left`, 16 lines of `right`, to the next; with `onto`, what out holds is added to. */
static inline void block(const void *left, int64_t left_step, int64_t left_next, const void *right, int64_t right_step,
                         int64_t right_next, int64_t depth, float *out, int64_t out_step, int onto) {
#ifdef __AMX_BF16__
    if (means == UNIT) {
        block_by_unit(left, left_step, left_next, right, right_step, right_next, depth, (char *)out, out_step, onto);
        return;
    }
#endif
    block_by_vectors(left, left_step, left_next, right, right_step, right_next, depth, (char *)out, out_step, onto);
}

#endif
