// o = dropout(softmax(c(scale · q·kᵀ))) · v in bf16 on tensor cores, in one pass over keys with a running maximum and sum; lse where it is
// wanted. Grid: (queries / ROWS, heads, batch).
#include "flash.cuh"

template <int SIZE, int ROWS>
__device__ void flash(const bf16* q, const bf16* k, const bf16* v, const int* starts, const u32* rng, bf16* o, float* lse,
    const Attention& at) {
    const int THREADS = 2 * ROWS, TILE = 2 * SPAN * SIZE;
    u32 h = blockIdx.y, b = blockIdx.z, lane = threadIdx.x % 32, own_row = threadIdx.x / 32 * 16, size = at.size;
    // Blocks of the last queries have most keys, and begin first.
    u32 block = gridDim.x - 1 - blockIdx.x;
    u64 stride = (u64)at.heads * size, kv_stride = (u64)at.kv_heads * size;
    u64 own = (u64)b * at.tokens * stride + h * size, kv = (u64)b * at.keys * kv_stride + h / at.group() * size;
    DenseFactor queries(q + own, stride), keys(k + kv, kv_stride), values(v + kv, kv_stride);
    Queries<ROWS> mine(at, starts + (u64)b * at.tokens, block);
    u32 shared = shared_address(dynamic_shared), tiles = shared + 2 * ROWS * SIZE;
    auto bring = [&](u32 first, u32 buffer) {
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE, keys, first, mine.to, size);
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE + TILE, values, first, mine.to, size);
        commit_copies();
    };
    u32 begin = mine.from / SPAN * SPAN;
    bring_head<SIZE, ROWS, THREADS>(shared, queries, block * ROWS, at.tokens, size);
    bring(begin, 0);
    Scores score_of(at);
    const bool drops = dropped<SIZE>(at);
    Philox philox = {};
    if (drops) philox = philox_of_op(rng, at.stream);
    u64 pair_row = ((u64)b * at.heads + h) * at.tokens;
    HeadSums<SIZE, SIZE> sums;
    float most[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.0f, 0.0f};
    for (u32 first = begin, buffer = 0; first < mine.to; first += SPAN, buffer ^= 1) {
        await_copies<0>();
        __syncthreads();
        if (first + SPAN < mine.to) bring(first + SPAN, buffer ^ 1);
        u32 tile = tiles + buffer * 2 * TILE;
        Pairs pairs;
        pairs.of<SIZE>(shared, own_row, tile);
        float highest[2] = {most[0], most[1]}, shrink[2], base[2];
        pairs.each([&](float& x, int half, u32 column) {
            x = mine.sees(half, first + column) ? score_of(x) : -INFINITY_F;
            highest[half] = fmaxf(highest[half], x);
        });
#pragma unroll
        for (int half = 0; half < 2; half++) {
            highest[half] = quad_max(highest[half]);
            // A row that has seen no key yet.
            base[half] = highest[half] == -INFINITY_F ? 0.0f : highest[half] * LOG2_E;
            shrink[half] = exp2f(fmaf(most[half], LOG2_E, -base[half]));
            most[half] = highest[half];
            sum[half] *= shrink[half];
        }
        sums.scale(shrink);
        pairs.each([&](float& x, int half, u32) {
            x = exp2f(fmaf(x, LOG2_E, -base[half]));
            sum[half] += x;
        });
        if (drops)
            pairs.each([&](float& x, int half, u32 column) {
                if (x != 0.0f) x *= at.kept(philox, pair_row + mine.row[half], first + column);
            });
        sums.add(pairs, tile + TILE, 0);
    }
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] = quad_sum(sum[half]);
        factors[half] = sum[half] > 0.0f ? 1.0f / sum[half] : 0.0f;
        if (lse && lane % 4 == 0 && mine.row[half] < at.tokens)
            lse[pair_row + mine.row[half]] = most[half] + logf(sum[half]);
    }
    sums.scale(factors);
    sums.write(dynamic_shared, own_row, o + own, stride, block * ROWS + own_row, at.tokens, 0, size);
}

#define KERNEL(SIZE, ROWS)                                                                         \
    FLASH_KERNEL(ROWS) flash_attention_##SIZE(const bf16* q, const bf16* k, const bf16* v, const int* starts, const u32* rng, \
        bf16* o, float* lse, Attention at) {                                                       \
        flash<SIZE, ROWS>(q, k, v, starts, rng, o, lse, at);                                            \
    }
KERNEL(32, 64) KERNEL(64, 64) KERNEL(128, 64) KERNEL(256, 64)
