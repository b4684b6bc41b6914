// Attention on tensor cores, for bf16; with dropout for heads of up to 64 elements: what forward, dq, and dk and dv share (Dao, FlashAttention-2, 2023).
//
// A block has ROWS rows of one head, queries or, for dk and dv, keys: 16 for each warp, which stay in shared memory. The rows of
// the other side come SPAN at a time by `cp.async` while the warps multiply those before. Spans begin at multiples of SPAN, so
// that what a row comes to does not depend on its neighbours. Heads of fewer elements than SIZE are filled with zeros. Softmax
// is in powers of two.
#pragma once
#include "attention.cuh"
#include "factor.cuh"

#define SPAN 32
#define LOG2_E 1.4426950408889634f

extern __shared__ __align__(128) u8 dynamic_shared[];

// Brings ROWS rows of a head from `first` on, those before `end`.
template <int SIZE, int ROWS, int THREADS>
__device__ __forceinline__ void bring_head(u32 to, const DenseFactor& from, u32 first, u32 end, u32 size) {
    const int WIDTH = SIZE / CHUNK;
    Extent extent = {end, size};
#pragma unroll 2
    for (u32 chunk = threadIdx.x; chunk < ROWS * WIDTH; chunk += THREADS) {
        u32 row = chunk / WIDTH, element = chunk % WIDTH * CHUNK;
        u32 count = extent.within(first + row, element);
        from.copy(to + 16 * place<WIDTH>(row, chunk % WIDTH), first + row, element, count);
    }
}

// Sums of a warp's 16 rows with SPAN rows of the other side.
struct Pairs {
    float at[SPAN / 8][4];

    // Products along the head of rows `row` to + 15 of `own` with the rows of `other`.
    template <int SIZE>
    __device__ __forceinline__ void of(u32 own, u32 row, u32 other) {
        const int WIDTH = SIZE / CHUNK;
#pragma unroll
        for (int j = 0; j < SPAN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) at[j][e] = 0.0f;
        // Of the largest heads not all at once: there are no registers for so many fragments.
#pragma unroll (SIZE > 128 ? 2 : SIZE / 16)
        for (int term = 0; term < SIZE; term += 16) {
            u32 left[4];
            left_fragment<true, WIDTH>(left, own, row, term);
#pragma unroll
            for (int j = 0; j < SPAN; j += 16) {
                u32 right[4];
                right_fragments<true, WIDTH>(right, other, j, term);
                multiply(at[j / 8], left, right[0], right[1]);
                multiply(at[j / 8 + 1], left, right[2], right[3]);
            }
        }
    }

    // what(the number, 0 for the lane's first row or 1 for its second, the column) for each.
    template <class What>
    __device__ __forceinline__ void each(What what) {
#pragma unroll
        for (int j = 0; j < SPAN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) what(at[j][e], e / 2, 8 * j + 2 * (threadIdx.x % 4) + e % 2);
    }
};

// A warp's 16 rows of OUT elements of a head.
template <int SIZE, int OUT>
struct HeadSums {
    float at[OUT / 8][4];

    __device__ __forceinline__ HeadSums() {
#pragma unroll
        for (int j = 0; j < OUT / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) at[j][e] = 0.0f;
    }

    // Adds weights, rounded to bf16, times the rows of `other`: their elements from `first` on.
    __device__ __forceinline__ void add(const Pairs& weights, u32 other, u32 first) {
        const int WIDTH = SIZE / CHUNK;
#pragma unroll
        for (int term = 0; term < SPAN; term += 16) {
            const float(&low)[4] = weights.at[term / 8], (&high)[4] = weights.at[term / 8 + 1];
            u32 left[4] = {pair_bits(low[0], low[1]), pair_bits(low[2], low[3]), pair_bits(high[0], high[1]),
                pair_bits(high[2], high[3])};
#pragma unroll
            for (int j = 0; j < OUT; j += 16) {
                u32 right[4];
                right_fragments<false, WIDTH>(right, other, first + j, term);
                multiply(at[j / 8], left, right[0], right[1]);
                multiply(at[j / 8 + 1], left, right[2], right[3]);
            }
        }
    }

    __device__ __forceinline__ void scale(const float (&factors)[2]) {
#pragma unroll
        for (int j = 0; j < OUT / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) at[j][e] *= factors[e / 2];
    }

    // Writes the rows before `end` by way of the warp's own rows of a tile of SIZE elements, which nobody reads any more: the
    // first is `row` there, and `row_at` in `to`, where rows have `stride` elements from one to the next, `size` of a head.
    __device__ __forceinline__ void write(
        u8* tile, u32 row, bf16* to, u64 stride, u32 row_at, u32 end, u32 first, u32 size) {
        const int WIDTH = SIZE / CHUNK;
        u32 lane = threadIdx.x % 32;
        __syncwarp();
#pragma unroll
        for (int j = 0; j < OUT / 8; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *(u32*)(tile + 16 * place<WIDTH>(row + lane / 4 + 8 * half, j) + 4 * (lane % 4)) =
                    pair_bits(at[j][2 * half], at[j][2 * half + 1]);
        __syncwarp();
        bool whole = (((u64)to | 2 * stride) % 16 | size % CHUNK) == 0;
#pragma unroll 1
        for (u32 chunk = lane; chunk < 16 * (OUT / CHUNK); chunk += 32) {
            u32 r = chunk / (OUT / CHUNK), c = chunk % (OUT / CHUNK), element = first + c * CHUNK;
            if (row_at + r >= end || element >= size) continue;
            const u8* from = tile + 16 * place<WIDTH>(row + r, c);
            bf16* at = to + (row_at + r) * stride + element;
            if (whole) *(uint4*)at = *(const uint4*)from;
            else
#pragma unroll 1
                for (u32 i = 0; i < min(size - element, (u32)CHUNK); i++) at[i] = ((const bf16*)from)[i];
        }
    }
};

// Whether pairs are dropped. Where sums take most registers there are none left for the generator.
template <int SIZE>
__device__ __forceinline__ bool dropped(const Attention& at) { return SIZE <= 64 && at.threshold; }

// Scores from products, and what the softmax needs of them.
struct Scores {
    float scale, cap, inner;

    __device__ explicit Scores(const Attention& at)
        : scale(at.scale), cap(at.cap), inner(at.cap == 0.0f ? 0.0f : 2.0f * LOG2_E / at.cap) {}

    // cap · tanh(x / cap), by its exponential form: off by roundings of the cap.
    __device__ __forceinline__ float operator()(float product) const {
        float x = scale * product;
        if (cap == 0.0f) return x;
        return cap - 2.0f * cap * __frcp_rn(1.0f + exp2f(x * inner));
    }
};

// The whole of a sum that four neighbouring lanes have in parts.
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(FULL_WARP, x, 1);
    return x + __shfl_xor_sync(FULL_WARP, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
}

// The two rows of queries that a lane has: row g and row g + 8 of its warp's 16, and the keys that they see.
template <int ROWS>
struct Queries {
    u32 row[2], first[2], end[2];
    // Keys that any query of the block sees.
    u32 from, to;

    __device__ Queries(const Attention& at, const int* starts, u32 block) {
        u32 lane = threadIdx.x % 32, lowest = block * ROWS;
        from = 0xffffffffu;
#pragma unroll
        for (u32 r = 0; r < ROWS; r += 32) {
            u32 i = lowest + r + lane, its_first = 0xffffffffu, its_end;
            if (i < at.tokens) at.visible(starts[i], i, its_first, its_end);
            from = min(from, __reduce_min_sync(FULL_WARP, its_first));
        }
        to = min(lowest + ROWS, at.tokens);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            row[half] = lowest + threadIdx.x / 32 * 16 + lane / 4 + 8 * half;
            first[half] = end[half] = 0;
            if (row[half] < at.tokens) at.visible(starts[row[half]], row[half], first[half], end[half]);
        }
    }
    __device__ bool sees(int half, u32 key) const { return key >= first[half] && key < end[half]; }
};

#define FLASH_KERNEL(ROWS) extern "C" __global__ void __launch_bounds__(2 * ROWS, 1)
