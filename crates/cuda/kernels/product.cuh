// Products of matrices with f32 sums: c = start + alpha · a·b + bias + beta · u·v.
//
// Each element of c is summed over k in ascending order by one chain of fused additions, whatever the tile; so tiles of
// all sizes give the same bits, and what is chosen by shape does not show. A tile of a and of b is brought into shared memory
// 16 terms of the sum at a time. Roofline: with tiles of 64, 16 multiplications for two vector loads of shared memory: bound
// by arithmetic.
#pragma once
#include "weight.cuh"

// Terms of the sum that are in shared memory at a time.
#define STEP 16

// A matrix: element (row, column) is at row · rows + column · columns.
struct Strides {
    u64 rows, columns;
};

// Tiles of both factors.
template <int TILE>
struct Tiles {
    float a[STEP][TILE + 4], b[STEP][TILE + 4];
};

// Adds terms `from` to `to` − 1 of the thread's SUB × SUB sums.
template <int TILE, int SUB, class TA, class B>
__device__ void add_product(float (&sums)[SUB][SUB], Tiles<TILE>& tiles, const float* table, const TA* a, Strides at_a,
    const B& b, Strides at_b, u32 m, u32 n, u32 from, u32 to) {
    const u32 side = TILE / SUB, threads = side * side;
    u32 first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
    u32 row = threadIdx.x / side * SUB, column = threadIdx.x % side * SUB;
    for (u32 k = from; k < to; k += STEP) {
        __syncthreads();
        for (u32 i = threadIdx.x; i < TILE * STEP; i += threads) {
            // Neighbouring threads read neighbouring elements.
            bool along_k = at_a.columns == 1;
            u32 r = along_k ? i / STEP : i % TILE, s = along_k ? i % STEP : i / TILE;
            bool inside = first_row + r < m && k + s < to;
            tiles.a[s][r] = inside ? load(a + (first_row + r) * at_a.rows + (k + s) * at_a.columns) : 0.0f;
        }
        for (u32 i = threadIdx.x; i < TILE * STEP; i += threads) {
            bool along_k = at_b.rows == 1;
            u32 c = along_k ? i / STEP : i % TILE, s = along_k ? i % STEP : i / TILE;
            bool inside = first_column + c < n && k + s < to;
            u64 index = (k + s) * at_b.rows + (first_column + c) * at_b.columns;
            tiles.b[s][c] = inside ? b.element(index, table) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int s = 0; s < STEP; s++) {
            float x[SUB], y[SUB];
#pragma unroll
            for (int i = 0; i < SUB; i++) {
                x[i] = tiles.a[s][row + i];
                y[i] = tiles.b[s][column + i];
            }
#pragma unroll
            for (int i = 0; i < SUB; i++)
#pragma unroll
                for (int j = 0; j < SUB; j++) sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
        }
    }
}

// What a product is added to and how: null pointers for what there is not. `block` terms of the sum are added up by
// themselves; the sums of blocks are then added in ascending order, onto start if `onto` is set.
template <class TA, class TC>
struct Epilogue {
    const TC *start, *bias;
    float alpha;
    u32 block;
    const TA *u, *v;
    Strides at_v;
    u32 rank;
    float beta;
};

// c [m, n], row-major. A block of (TILE / SUB)² threads makes a tile.
template <int TILE, int SUB, class TA, class B, class TC>
__device__ void product(const TA* a, Strides at_a, B b, Strides at_b, TC* c, u32 m, u32 n, u32 k, Epilogue<TA, TC> e) {
    __shared__ __align__(16) Tiles<TILE> tiles;
    __shared__ float table[B::TABLE];
    // The first barrier of the sum comes before the table is read.
    b.prepare(table);
    const u32 side = TILE / SUB;
    u32 row = blockIdx.x * TILE + threadIdx.x / side * SUB, column = blockIdx.y * TILE + threadIdx.x % side * SUB;
    float totals[SUB][SUB];
#pragma unroll
    for (int i = 0; i < SUB; i++)
#pragma unroll
        for (int j = 0; j < SUB; j++) {
            bool inside = e.start && row + i < m && column + j < n;
            totals[i][j] = inside ? load(e.start + (u64)(row + i) * n + column + j) : 0.0f;
        }
    for (u32 from = 0; from < k; from += e.block) {
        float sums[SUB][SUB] = {};
        add_product<TILE, SUB>(sums, tiles, table, a, at_a, b, at_b, m, n, from, min(k, from + e.block));
#pragma unroll
        for (int i = 0; i < SUB; i++)
#pragma unroll
            for (int j = 0; j < SUB; j++) totals[i][j] += e.alpha * sums[i][j];
    }
    if (e.rank > 0) {
        float sums[SUB][SUB] = {};
        Strides at_u = {e.rank, 1};
        add_product<TILE, SUB>(sums, tiles, table, e.u, at_u, Dense<TA>{e.v}, e.at_v, m, n, 0, e.rank);
#pragma unroll
        for (int i = 0; i < SUB; i++)
#pragma unroll
            for (int j = 0; j < SUB; j++) totals[i][j] += e.beta * sums[i][j];
    }
#pragma unroll
    for (int i = 0; i < SUB; i++)
#pragma unroll
        for (int j = 0; j < SUB; j++)
            if (row + i < m && column + j < n) {
                float bias = e.bias ? load(e.bias + column + j) : 0.0f;
                store(c + (u64)(row + i) * n + column + j, totals[i][j] + bias);
            }
}

// M(tile, columns of a thread, name) for each size of tile.
#define FOR_TILES(M, ...) M(64, 4, wide, __VA_ARGS__) M(16, 2, narrow, __VA_ARGS__)
