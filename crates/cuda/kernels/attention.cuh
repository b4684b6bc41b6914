// What attention forward and backward share: sizes, what a query sees, tiles of rows in shared memory.
//
// A warp has one query (or, for dk and dv, one key) of one head; a block has four, and brings 32 rows of the other side at a
// time into shared memory. A lane has one of those 32 for scores, and every 32nd element of a head for sums. Blocks of 32
// begin at multiples of 32, so that what a query comes to does not depend on its neighbours.
#pragma once
#include "curves.cuh"
#include "philox.cuh"

#define INFINITY_F __int_as_float(0x7f800000)
#define WARPS 4
// Elements of a head that a lane has; heads have up to 32 times as many.
#define PARTS 8

// Sizes and attributes. `cached`: `starts` holds positions in a cache of `keys` rows, not beginnings of segments.
struct Attention {
    u32 tokens, keys, heads, kv_heads, size, window, cached;
    float scale, cap, keep_scale;
    u32 threshold;
    u64 stream;

    __device__ u32 group() const { return heads / kv_heads; }

    // The keys from first to end − 1 that query i sees, with `start` its segment's beginning or its position.
    __device__ void visible(int start, u32 i, u32& first, u32& end) const {
        u32 last = cached ? (u32)start : i;
        end = last + 1;
        first = cached || start < 0 ? 0 : min((u32)start, end);
        if (window && end > window) first = max(first, end - window);
    }

    // What dropout multiplies the probability of a pair with; `row` counts (batch, head, query).
    __device__ float kept(const Philox& philox, u64 row, u32 j) const {
        if (threshold == 0) return 1.0f;
        return philox.word(row * keys + j) >= threshold ? keep_scale : 0.0f;
    }
};

// 32 rows of one head from row `first` on, `stride` elements apart, those before `end`; rows lie `size` + 1 apart.
template <class T>
__device__ void bring_rows(float* tile, const T* from, u64 stride, u32 first, u32 end, u32 size) {
    for (u32 i = threadIdx.x; i < 32 * size; i += 32 * WARPS) {
        u32 row = i / size, e = i % size;
        tile[row * (size + 1) + e] = first + row < end ? load(from + (first + row) * stride + e) : 0.0f;
    }
}

// One row into the warp's own place.
template <class T>
__device__ void bring_row(float* to, const T* from, u32 size) {
    for (u32 e = threadIdx.x % 32; e < size; e += 32) to[e] = load(from + e);
}

__device__ __forceinline__ float dot(const float* a, const float* b, u32 size) {
    float sum = 0.0f;
    for (u32 e = 0; e < size; e++) sum = fmaf(a[e], b[e], sum);
    return sum;
}

// sums[e] += Σ over the 32 rows of weight · row[e], a weight from each lane, in ascending order.
__device__ __forceinline__ void add_rows(float (&sums)[PARTS], float weight, const float* tile, u32 size) {
    u32 lane = threadIdx.x % 32;
    for (int row = 0; row < 32; row++) {
        float w = __shfl_sync(FULL_WARP, weight, row);
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            u32 e = lane + 32 * part;
            if (e < size) sums[part] = fmaf(w, tile[row * (size + 1) + e], sums[part]);
        }
    }
}

template <class T>
__device__ void put_row(T* to, const float (&sums)[PARTS], float factor, u32 size) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        u32 e = threadIdx.x % 32 + 32 * part;
        if (e < size) store(to + e, sums[part] * factor);
    }
}
