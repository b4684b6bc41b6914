// With S = scale·q·kᵀ, P = exp(c(S) − lse), Z the dropout factors and D = Σ dy·o: dv = (P∘Z)ᵀ dy, dS = c′ ∘ P ∘ (Z∘dy·vᵀ − D),
// dq = scale · dS·k, dk = scale · dSᵀ·q. D first; then dq, a query to a warp; then dk and dv, a key to a warp, over the query
// heads that read it in ascending order. Dao, FlashAttention-2, 2023.
#include "attention.cuh"

// delta [B, H, T] = Σ over a head of dy·o. A warp for each, four a block.
#define DELTA(T, NAME)                                                                             \
    extern "C" __global__ void attention_delta_##NAME(                                             \
        const T* dy, const T* o, float* delta, u32 tokens, u32 heads, u32 size, u32 rows) {        \
        u32 row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;                  \
        if (row >= rows) return;                                                                   \
        u32 i = row % tokens, h = row / tokens % heads, b = row / tokens / heads;                  \
        u64 own = (((u64)b * tokens + i) * heads + h) * size;                                      \
        float sum = 0.0f;                                                                          \
        for (u32 e = lane; e < size; e += 32) sum += load(dy + own + e) * load(o + own + e);       \
        sum = warp_sum(sum);                                                                       \
        if (lane == 0) delta[row] = sum;                                                           \
    }

// What one pair comes to: the probability that multiplies dy, and the cotangent of the score before scaling.
__device__ __forceinline__ void pair(const Attention& at, float product, float lse, float delta, float dp, float kept,
    float& weight, float& ds) {
    float score = capped(at.scale * product, at.cap), p = expf(score - lse);
    weight = p * kept;
    ds = p * (kept * dp - delta) * cap_slope(score, at.cap);
}

// Grid: (queries / 4, heads, batch).
template <class T>
__device__ void make_dq(const T* dy, const T* q, const T* k, const T* v, const float* lse, const float* delta,
    const int* starts, const u32* rng, T* dq, Attention at) {
    extern __shared__ float memory[];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, size = at.size, h = blockIdx.y, b = blockIdx.z;
    float *keys = memory, *values = keys + 32 * (size + 1), *query = values + 32 * (size + 1) + 2 * warp * size;
    float* cotangent = query + size;
    u32 i = blockIdx.x * WARPS + warp;
    bool mine = i < at.tokens;
    u64 kv_stride = (u64)at.kv_heads * size, kv = (u64)b * at.keys * kv_stride + h / at.group() * size;
    u64 own = (((u64)b * at.tokens + i) * at.heads + h) * size, row = ((u64)b * at.heads + h) * at.tokens + i;
    u32 from = 0xffffffffu, to = 0, first = 0, end = 0;
    for (u32 other = blockIdx.x * WARPS; other < min(at.tokens, blockIdx.x * WARPS + WARPS); other++) {
        u32 its_first, its_end;
        at.visible(starts[(u64)b * at.tokens + other], other, its_first, its_end);
        from = min(from, its_first);
        to = max(to, its_end);
        if (other == i) first = its_first, end = its_end;
    }
    if (mine) {
        bring_row(query, q + own, size);
        bring_row(cotangent, dy + own, size);
    }
    float its_lse = mine ? lse[row] : 0.0f, its_delta = mine ? delta[row] : 0.0f, sums[PARTS] = {};
    Philox philox = {};
    if (at.threshold) philox = philox_of_op(rng, at.stream);
    for (u32 chunk = from / 32 * 32; chunk < to; chunk += 32) {
        __syncthreads();
        bring_rows(keys, k + kv, kv_stride, chunk, to, size);
        bring_rows(values, v + kv, kv_stride, chunk, to, size);
        __syncthreads();
        u32 j = chunk + lane;
        float weight, ds = 0.0f;
        if (mine && j >= first && j < end) {
            float product = dot(query, keys + lane * (size + 1), size);
            float dp = dot(cotangent, values + lane * (size + 1), size);
            pair(at, product, its_lse, its_delta, dp, at.kept(philox, row, j), weight, ds);
        }
        __syncwarp();
        add_rows(sums, ds, keys, size);
    }
    if (mine) put_row(dq + own, sums, at.scale, size);
}

// Grid: (keys / 4, kv heads, batch).
template <class T>
__device__ void make_dkv(const T* dy, const T* q, const T* k, const T* v, const float* lse, const float* delta,
    const int* starts, const u32* rng, T* dk, T* dv, Attention at) {
    extern __shared__ float memory[];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, size = at.size, kv_head = blockIdx.y, b = blockIdx.z;
    float *queries = memory, *cotangents = queries + 32 * (size + 1), *key = cotangents + 32 * (size + 1) + 2 * warp * size;
    float* value = key + size;
    u32 lowest = blockIdx.x * WARPS, j = lowest + warp;
    bool mine = j < at.tokens;
    u64 own = (((u64)b * at.tokens + j) * at.kv_heads + kv_head) * size;
    if (mine) {
        bring_row(key, k + own, size);
        bring_row(value, v + own, size);
    }
    // Beyond the window no query sees any of the four keys.
    u32 to = at.window ? min(at.tokens, lowest + WARPS - 1 + at.window) : at.tokens;
    float dk_sums[PARTS] = {}, dv_sums[PARTS] = {};
    Philox philox = {};
    if (at.threshold) philox = philox_of_op(rng, at.stream);
    u64 stride = (u64)at.heads * size;
    for (u32 g = 0; g < at.group(); g++) {
        u32 h = kv_head * at.group() + g;
        u64 base = (u64)b * at.tokens * stride + h * size;
        for (u32 chunk = lowest / 32 * 32; chunk < to; chunk += 32) {
            __syncthreads();
            bring_rows(queries, q + base, stride, chunk, to, size);
            bring_rows(cotangents, dy + base, stride, chunk, to, size);
            __syncthreads();
            u32 i = chunk + lane;
            float weight = 0.0f, ds = 0.0f;
            if (mine && i < to) {
                u32 first, end;
                at.visible(starts[(u64)b * at.tokens + i], i, first, end);
                if (j >= first && j < end) {
                    u64 row = ((u64)b * at.heads + h) * at.tokens + i;
                    float product = dot(queries + lane * (size + 1), key, size);
                    float dp = dot(cotangents + lane * (size + 1), value, size);
                    pair(at, product, lse[row], delta[row], dp, at.kept(philox, row, j), weight, ds);
                }
            }
            __syncwarp();
            add_rows(dv_sums, weight, cotangents, size);
            add_rows(dk_sums, ds, queries, size);
        }
    }
    if (!mine) return;
    put_row(dk + own, dk_sums, at.scale, size);
    put_row(dv + own, dv_sums, 1.0f, size);
}

#define KERNELS(T, NAME)                                                                           \
    DELTA(T, NAME)                                                                                 \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) attention_dq_##NAME(const T* dy, const T* q, const T* k, \
        const T* v, const float* lse, const float* delta, const int* starts, const u32* rng, T* dq, Attention at) { \
        make_dq(dy, q, k, v, lse, delta, starts, rng, dq, at);                                     \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) attention_dkv_##NAME(const T* dy, const T* q, const T* k, \
        const T* v, const float* lse, const float* delta, const int* starts, const u32* rng, T* dk, T* dv, Attention at) { \
        make_dkv(dy, q, k, v, lse, delta, starts, rng, dk, dv, at);                                \
    }
FOR_FLOATS(KERNELS)
