// o = dropout(softmax(c(scale · q·kᵀ))) · v for each query, in one pass over its keys with a running maximum and sum (Dao et
// al., FlashAttention, 2022); lse where it is wanted. Grid: (queries / 4, heads, batch).
#include "attention.cuh"

template <class T>
__device__ void attend(const T* q, const T* k, const T* v, const int* starts, const u32* rng, T* o, float* lse, Attention at) {
    extern __shared__ float memory[];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, size = at.size, h = blockIdx.y, b = blockIdx.z;
    float *keys = memory, *values = keys + 32 * (size + 1), *query = values + 32 * (size + 1) + warp * size;
    u32 i = blockIdx.x * WARPS + warp;
    bool mine = i < at.tokens;
    u64 kv_stride = (u64)at.kv_heads * size, kv = (u64)b * at.keys * kv_stride + h / at.group() * size;
    u64 own = (((u64)b * at.tokens + i) * at.heads + h) * size, row = ((u64)b * at.heads + h) * at.tokens + i;
    // Of all four queries, and of this one.
    u32 from = 0xffffffffu, to = 0, first = 0, end = 0;
    for (u32 other = blockIdx.x * WARPS; other < min(at.tokens, blockIdx.x * WARPS + WARPS); other++) {
        u32 its_first, its_end;
        at.visible(starts[(u64)b * at.tokens + other], other, its_first, its_end);
        from = min(from, its_first);
        to = max(to, its_end);
        if (other == i) first = its_first, end = its_end;
    }
    to = min(to, at.keys);
    if (mine) bring_row(query, q + own, size);
    Philox philox = {};
    if (at.threshold) philox = philox_of_op(rng, at.stream);
    float most = -INFINITY_F, sum = 0.0f, sums[PARTS] = {};
    for (u32 chunk = from / 32 * 32; chunk < to; chunk += 32) {
        __syncthreads();
        bring_rows(keys, k + kv, kv_stride, chunk, to, size);
        bring_rows(values, v + kv, kv_stride, chunk, to, size);
        __syncthreads();
        u32 j = chunk + lane;
        bool sees = mine && j >= first && j < end;
        float score = sees ? capped(at.scale * dot(query, keys + lane * (size + 1), size), at.cap) : -INFINITY_F;
        float highest = fmaxf(most, warp_max(score));
        if (highest == -INFINITY_F) continue;
        float shrink = expf(most - highest), p = sees ? expf(score - highest) : 0.0f;
        most = highest;
        sum = sum * shrink + warp_sum(p);
#pragma unroll
        for (int part = 0; part < PARTS; part++) sums[part] *= shrink;
        add_rows(sums, sees ? p * at.kept(philox, row, j) : 0.0f, values, size);
    }
    if (!mine) return;
    put_row(o + own, sums, sum > 0.0f ? 1.0f / sum : 0.0f, size);
    if (lse && lane == 0) lse[row] = most + logf(sum);
}

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) attention_##NAME(const T* q, const T* k, const T* v, \
        const int* starts, const u32* rng, T* o, float* lse, Attention at) {                       \
        attend(q, k, v, starts, rng, o, lse, at);                                                  \
    }
FOR_FLOATS(KERNEL)
