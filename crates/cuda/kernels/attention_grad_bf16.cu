// dq, dk and dv of attention in bf16 on tensor cores: see attention_grad.cu for what they are, flash.cuh for how.
#include "flash.cuh"

// dq = scale · dS·k. Grid: (queries / ROWS, heads, batch).
template <int SIZE, int ROWS>
__device__ void flash_dq(const bf16* dy, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta,
    const int* starts, const u32* rng, bf16* dq, const Attention& at) {
    const int THREADS = 2 * ROWS, TILE = 2 * SPAN * SIZE, OWN = 2 * ROWS * SIZE;
    u32 h = blockIdx.y, b = blockIdx.z, own_row = threadIdx.x / 32 * 16, size = at.size, block = gridDim.x - 1 - blockIdx.x;
    u64 stride = (u64)at.heads * size, kv_stride = (u64)at.kv_heads * size;
    u64 own = (u64)b * at.tokens * stride + h * size, kv = (u64)b * at.keys * kv_stride + h / at.group() * size;
    DenseFactor queries(q + own, stride), cotangents(dy + own, stride), keys(k + kv, kv_stride), values(v + kv, kv_stride);
    Queries<ROWS> mine(at, starts + (u64)b * at.tokens, block);
    u32 shared = shared_address(dynamic_shared), tiles = shared + 2 * OWN;
    auto bring = [&](u32 first, u32 buffer) {
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE, keys, first, mine.to, size);
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE + TILE, values, first, mine.to, size);
        commit_copies();
    };
    u32 begin = mine.from / SPAN * SPAN;
    bring_head<SIZE, ROWS, THREADS>(shared, queries, block * ROWS, at.tokens, size);
    bring_head<SIZE, ROWS, THREADS>(shared + OWN, cotangents, block * ROWS, at.tokens, size);
    bring(begin, 0);
    u64 pair_row = ((u64)b * at.heads + h) * at.tokens;
    float its_lse[2] = {}, its_delta[2] = {};
#pragma unroll
    for (int half = 0; half < 2; half++)
        if (mine.row[half] < at.tokens) {
            u64 row = pair_row + mine.row[half];
            its_lse[half] = lse[row] * LOG2_E, its_delta[half] = delta[row];
        }
    Scores score_of(at);
    const bool drops = dropped<SIZE>(at);
    Philox philox = {};
    if (drops) philox = philox_of_op(rng, at.stream);
    HeadSums<SIZE, SIZE> sums;
    for (u32 first = begin, buffer = 0; first < mine.to; first += SPAN, buffer ^= 1) {
        await_copies<0>();
        __syncthreads();
        if (first + SPAN < mine.to) bring(first + SPAN, buffer ^ 1);
        u32 tile = tiles + buffer * 2 * TILE;
        Pairs pairs, products;
        pairs.of<SIZE>(shared, own_row, tile);
        products.of<SIZE>(shared + OWN, own_row, tile + TILE);
#pragma unroll
        for (int j = 0; j < SPAN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int half = e / 2;
                u32 column = first + 8 * j + 2 * (threadIdx.x % 4) + e % 2;
                float score = score_of(pairs.at[j][e]), dp = products.at[j][e];
                float p = mine.sees(half, column) ? exp2f(fmaf(score, LOG2_E, -its_lse[half])) : 0.0f;
                if (drops && p != 0.0f) dp *= at.kept(philox, pair_row + mine.row[half], column);
                pairs.at[j][e] = p * (dp - its_delta[half]) * cap_slope(score, at.cap);
            }
        sums.add(pairs, tile, 0);
    }
    float factors[2] = {at.scale, at.scale};
    sums.scale(factors);
    sums.write(dynamic_shared, own_row, dq + own, stride, block * ROWS + own_row, at.tokens, 0, size);
}

// What a block knows of the queries of a span.
struct Column {
    float lse, delta;
    u32 first, end;
};

// dk = scale · dSᵀ·q and dv = Pᵀ·dy over the query heads that read a key, in ascending order; a block makes OUT of a head's
// elements. Grid: (keys / ROWS · SIZE / OUT, kv heads, batch).
template <int SIZE, int ROWS, int OUT>
__device__ void flash_dkv(const bf16* dy, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta,
    const int* starts, const u32* rng, bf16* dk, bf16* dv, const Attention& at) {
    const int THREADS = 2 * ROWS, TILE = 2 * SPAN * SIZE, OWN = 2 * ROWS * SIZE;
    u32 kv_head = blockIdx.y, b = blockIdx.z, lane = threadIdx.x % 32, own_row = threadIdx.x / 32 * 16, size = at.size;
    u32 lowest = blockIdx.x / (SIZE / OUT) * ROWS, element = blockIdx.x % (SIZE / OUT) * OUT;
    u64 stride = (u64)at.heads * size, kv_stride = (u64)at.kv_heads * size;
    u64 own = (u64)b * at.tokens * kv_stride + kv_head * size;
    DenseFactor keys(k + own, kv_stride), values(v + own, kv_stride);
    u32 shared = shared_address(dynamic_shared), tiles = shared + 2 * OWN;
    Column* columns = (Column*)(dynamic_shared + 2 * OWN + 4 * TILE);
    // Beyond the window no query sees any of the keys.
    u32 begin = lowest / SPAN * SPAN, to = at.window ? min(at.tokens, lowest + ROWS - 1 + at.window) : at.tokens;
    u32 spans = (to - begin + SPAN - 1) / SPAN;
    auto bring = [&](u32 step, u32 buffer) {
        u32 h = kv_head * at.group() + step / spans, first = begin + step % spans * SPAN;
        u64 base = (u64)b * at.tokens * stride + h * size;
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE, DenseFactor(q + base, stride), first, to, size);
        bring_head<SIZE, SPAN, THREADS>(tiles + buffer * 2 * TILE + TILE, DenseFactor(dy + base, stride), first, to, size);
        commit_copies();
        u32 i = first + threadIdx.x;
        if (threadIdx.x >= SPAN) return;
        Column column = {0.0f, 0.0f, 0, 0};
        if (i < to) {
            u64 row = ((u64)b * at.heads + h) * at.tokens + i;
            column.lse = lse[row] * LOG2_E, column.delta = delta[row];
            at.visible(starts[(u64)b * at.tokens + i], i, column.first, column.end);
        }
        columns[buffer * SPAN + threadIdx.x] = column;
    };
    bring_head<SIZE, ROWS, THREADS>(shared, keys, lowest, at.tokens, size);
    bring_head<SIZE, ROWS, THREADS>(shared + OWN, values, lowest, at.tokens, size);
    bring(0, 0);
    Scores score_of(at);
    const bool drops = dropped<SIZE>(at);
    Philox philox = {};
    if (drops) philox = philox_of_op(rng, at.stream);
    HeadSums<SIZE, OUT> dk_sums, dv_sums;
    u32 steps = spans * at.group(), key = lowest + own_row + lane / 4;
    for (u32 step = 0, buffer = 0; step < steps; step++, buffer ^= 1) {
        await_copies<0>();
        __syncthreads();
        if (step + 1 < steps) bring(step + 1, buffer ^ 1);
        u32 tile = tiles + buffer * 2 * TILE;
        // The first query of the span, as pairs are counted.
        u64 pair_row = ((u64)b * at.heads + kv_head * at.group() + step / spans) * at.tokens + begin + step % spans * SPAN;
        Pairs pairs, products;
        pairs.of<SIZE>(shared, own_row, tile);
        products.of<SIZE>(shared + OWN, own_row, tile + TILE);
#pragma unroll
        for (int j = 0; j < SPAN / 8; j++)
#pragma unroll
            for (int side = 0; side < 2; side++) {
                u32 i = 8 * j + 2 * (lane % 4) + side;
                Column column = columns[buffer * SPAN + i];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float &x = pairs.at[j][2 * half + side], &y = products.at[j][2 * half + side];
                    float score = score_of(x);
                    bool seen = key + 8 * half >= column.first && key + 8 * half < column.end;
                    float p = seen ? exp2f(fmaf(score, LOG2_E, -column.lse)) : 0.0f, kept = 1.0f;
                    if (drops && seen) kept = at.kept(philox, pair_row + i, key + 8 * half);
                    x = p * kept;
                    y = p * (kept * y - column.delta) * cap_slope(score, at.cap);
                }
            }
        dv_sums.add(pairs, tile + TILE, element);
        dk_sums.add(products, tile, element);
    }
    float factors[2] = {at.scale, at.scale};
    dk_sums.scale(factors);
    // No warp reads another's rows of keys and values.
    dk_sums.write(dynamic_shared, own_row, dk + own, kv_stride, lowest + own_row, at.tokens, element, size);
    dv_sums.write(dynamic_shared + OWN, own_row, dv + own, kv_stride, lowest + own_row, at.tokens, element, size);
}

#define KERNELS(SIZE, ROWS, OUT)                                                                   \
    FLASH_KERNEL(ROWS) flash_dq_##SIZE(const bf16* dy, const bf16* q, const bf16* k, const bf16* v, const float* lse, \
        const float* delta, const int* starts, const u32* rng, bf16* dq, Attention at) {               \
        flash_dq<SIZE, ROWS>(dy, q, k, v, lse, delta, starts, rng, dq, at);                             \
    }                                                                                              \
    FLASH_KERNEL(ROWS) flash_dkv_##SIZE(const bf16* dy, const bf16* q, const bf16* k, const bf16* v, const float* lse, \
        const float* delta, const int* starts, const u32* rng, bf16* dk, bf16* dv, Attention at) {     \
        flash_dkv<SIZE, ROWS, OUT>(dy, q, k, v, lse, delta, starts, rng, dk, dv, at);                   \
    }
KERNELS(32, 64, 32) KERNELS(64, 64, 64) KERNELS(128, 64, 128) KERNELS(256, 32, 128)
