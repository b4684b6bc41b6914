// Products of bf16 matrices on tensor cores, with f32 sums: c = start + alpha · a·b + bias + beta · u·v.
//
// Each element of c is summed over k in steps of 16 in ascending order, whatever the tile, so tiles of all sizes give the same
// bits. Sums that launches go on with (weight gradients, over tokens) and the low-rank term are made of 32 terms at a time and
// then added: what is split at a multiple of 32 has the same bits. A block brings the next tiles of both factors into shared
// memory by `cp.async` while its warps multiply: three tiles of a dense factor, two of a quantised one. Roofline: with tiles of
// 128, 64 multiplications for each byte that comes from the second-level cache: bound by arithmetic.
#pragma once
#include "factor.cuh"

extern __shared__ __align__(128) u8 dynamic_shared[];

// Tiles of M rows and N columns of c, of which a warp has WM × WN.
template <int M_, int N_, int WM_, int WN_>
struct Shape {
    enum { M = M_, N = N_, WM = WM_, WN = WN_, WARPS_ACROSS = N / WN, THREADS = 32 * (M / WM) * (N / WN) };
    enum { PARTS_DOWN = WM / 16, PARTS_ACROSS = WN / 8 };
};
typedef Shape<128, 128, 64, 32> Wide;
typedef Shape<64, 64, 32, 32> Middle;
typedef Shape<32, 32, 16, 16> Narrow;

// A factor whose terms lie along its lines (ALONG: a line for each row or column of c), or whose lines are terms.
template <class S, int SIDE, bool ALONG, class F>
struct Tile {
    enum { WIDTH = ALONG ? TERMS / CHUNK : SIDE / CHUNK, CHUNKS = SIDE * TERMS / CHUNK, BYTES = 16 * CHUNKS };
    enum { EACH = CHUNKS / S::THREADS, AHEAD = F::AHEAD, BUFFERS = AHEAD + 1 };
    typename F::Read reads[AHEAD == 1 ? EACH : 1];
    u32 base, first;
    Extent extent;

    // At `base` in shared memory; `first` is the tile's first row or column of c, of `sides`; terms end before `terms`.
    __device__ Tile(u32 base, u32 first, u32 sides, u32 terms)
        : base(base), first(first), extent{ALONG ? sides : terms, ALONG ? terms : sides} {}

    __device__ u32 buffer(u32 step) const { return base + step % BUFFERS * BYTES; }

    // what(i, place in shared memory, line, element, how many) for each of this thread's chunks of a step.
    template <class What>
    __device__ __forceinline__ void each(u32 step, What what) {
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            u32 chunk = threadIdx.x + i * S::THREADS, row = chunk / WIDTH, column = chunk % WIDTH;
            u32 line = row + (ALONG ? first : step * TERMS), element = CHUNK * column + (ALONG ? step * TERMS : first);
            what(i, buffer(step) + 16 * place<WIDTH>(row, column), line, element, extent.within(line, element));
        }
    }
    __device__ __forceinline__ void copy(const F& f, u32 step) {
        each(step, [&](u32, u32 to, u32 line, u32 element, u32 count) { f.copy(to, line, element, count); });
    }
    __device__ __forceinline__ void read(const F& f, u32 step) {
        each(step, [&](u32 i, u32, u32 line, u32 element, u32 count) { reads[i] = f.read(line, element, count); });
    }
    __device__ __forceinline__ void decode(const F& f, u32 step, const float* table) {
        each(step, [&](u32 i, u32 to, u32 line, u32 element, u32 count) {
            f.decode(to, reads[i], line, element, count, table);
        });
    }
};

// The place of an element of a warp's stage, 16 rows of 32 f32: fours are mixed with the row's number, so that neither pairs that are
// written by fragments nor chunks that are read by rows conflict.
__device__ __forceinline__ u32 staged(u32 row, u32 column) {
    return row * 32 + 4 * (column / 4 ^ (2 * (row & 3) | row & 1)) + column % 4;
}

// A warp's sums: 16 × 8 of c for each part.
template <class S>
struct Sums {
    float at[S::PARTS_DOWN][S::PARTS_ACROSS][4];

    // The warp's first row and column within the block's tile.
    static __device__ u32 row() { return threadIdx.x / 32 / S::WARPS_ACROSS * S::WM; }
    static __device__ u32 column() { return threadIdx.x / 32 % S::WARPS_ACROSS * S::WN; }

    // Adds the product of two tiles of TERMS terms; BLOCKED: `factor` times what they come to by themselves.
    template <bool A_ALONG, bool B_ALONG, bool BLOCKED>
    __device__ __forceinline__ void add(u32 a, u32 b, float factor) {
        const int A_WIDTH = A_ALONG ? TERMS / CHUNK : S::M / CHUNK, B_WIDTH = B_ALONG ? TERMS / CHUNK : S::N / CHUNK;
        u32 right[TERMS / 16][S::PARTS_ACROSS / 2][4];
#pragma unroll
        for (int step = 0; step < TERMS / 16; step++)
#pragma unroll
            for (int j = 0; j < S::PARTS_ACROSS / 2; j++)
                right_fragments<B_ALONG, B_WIDTH>(right[step][j], b, column() + 16 * j, 16 * step);
#pragma unroll
        for (int i = 0; i < S::PARTS_DOWN; i++) {
            float block[S::PARTS_ACROSS][4] = {};
#pragma unroll
            for (int step = 0; step < TERMS / 16; step++) {
                u32 left[4];
                left_fragment<A_ALONG, A_WIDTH>(left, a, row() + 16 * i, 16 * step);
#pragma unroll
                for (int j = 0; j < S::PARTS_ACROSS; j++) {
                    u32(&pair)[4] = right[step][j / 2];
                    multiply(BLOCKED ? block[j] : at[i][j], left, pair[2 * (j % 2)], pair[2 * (j % 2) + 1]);
                }
            }
            if (BLOCKED)
#pragma unroll
                for (int j = 0; j < S::PARTS_ACROSS; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) at[i][j][e] = fmaf(factor, block[j][e], at[i][j][e]);
        }
    }

    __device__ __forceinline__ void scale(float factor) {
#pragma unroll
        for (int i = 0; i < S::PARTS_DOWN; i++)
#pragma unroll
            for (int j = 0; j < S::PARTS_ACROSS; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) at[i][j][e] *= factor;
    }

    // Rows `part` · 16 to + 15 of the warp's part of c by way of a stage in shared memory, where lanes have whole chunks of rows:
    // IN from there, or to there.
    template <bool IN>
    __device__ __forceinline__ void exchange(float* stage, int part) {
        u32 lane = threadIdx.x % 32;
#pragma unroll
        for (int j = 0; j < S::PARTS_ACROSS; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float2* to = (float2*)(stage + staged(lane / 4 + 8 * half, 8 * j + 2 * (lane % 4)));
                float(&pair)[4] = at[part][j];
                if (IN) pair[2 * half] = to->x, pair[2 * half + 1] = to->y;
                else *to = make_float2(pair[2 * half], pair[2 * half + 1]);
            }
    }
};

// Adds all terms of a product; memory for the tiles begins at `shared`.
template <class S, bool A_ALONG, bool B_ALONG, bool BLOCKED, class A, class B>
__device__ __forceinline__ void add_terms(
    Sums<S>& sums, u32 shared, const A& a, const B& b, const float* table, u32 m, u32 n, u32 k, float factor) {
    typedef Tile<S, S::M, A_ALONG, A> Left;
    typedef Tile<S, S::N, B_ALONG, B> Right;
    Left left(shared, blockIdx.x * S::M, m, k);
    Right right(shared + Left::BUFFERS * Left::BYTES, blockIdx.y * S::N, n, k);
    u32 steps = (k + TERMS - 1) / TERMS;
    for (u32 step = 0; step < 2; step++) {
        if (step < steps) {
            if (Left::AHEAD == 2) left.copy(a, step);
            if (Right::AHEAD == 2) right.copy(b, step);
        }
        commit_copies();
    }
    if (Right::AHEAD == 1 && steps) {
        right.read(b, 0);
        // The table is read from here on.
        __syncthreads();
        right.decode(b, 0, table);
    }
    for (u32 step = 0; step < steps; step++) {
        await_copies<1>();
        // This step's tiles are there for all, and none reads those of the step before any more.
        __syncthreads();
        if (step + 2 < steps) {
            if (Left::AHEAD == 2) left.copy(a, step + 2);
            if (Right::AHEAD == 2) right.copy(b, step + 2);
        }
        commit_copies();
        bool more = Right::AHEAD == 1 && step + 1 < steps;
        if (more) right.read(b, step + 1);
        sums.template add<A_ALONG, B_ALONG, BLOCKED>(left.buffer(step), right.buffer(step), factor);
        if (more) right.decode(b, step + 1, table);
    }
    await_copies<0>();
}

// u [m, rank] times v, whose element (r, column) is at r · rows + column · columns, times beta; no term if rank is 0.
struct LowRank {
    const bf16 *u, *v;
    u64 rows, columns;
    u32 rank;
    float beta;
};

// Adds it.
template <class S>
__device__ __forceinline__ void add_low_rank(Sums<S>& sums, u32 shared, const LowRank& with, u32 m, u32 n) {
    typedef Tile<S, S::M, true, DenseFactor> Left;
    DenseFactor u(with.u, with.rank);
    Left left(shared, blockIdx.x * S::M, m, with.rank);
    u32 b = shared + Left::BYTES, first = blockIdx.y * S::N;
    for (u32 step = 0; step * TERMS < with.rank; step++) {
        __syncthreads();
        left.each(step, [&](u32, u32 to, u32 line, u32 element, u32 count) {
            u.copy(to - left.buffer(step) + shared, line, element, count);
        });
        commit_copies();
        // Neighbouring threads have neighbouring columns.
        for (u32 chunk = threadIdx.x; chunk < S::N * TERMS / CHUNK; chunk += S::THREADS) {
            u32 column = chunk % S::N, part = chunk / S::N, x[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                x[i] = 0;
#pragma unroll
                for (u32 half = 0; half < 2; half++) {
                    u32 r = step * TERMS + CHUNK * part + 2 * i + half;
                    bool inside = first + column < n && r < with.rank;
                    u64 index = r * with.rows + (first + column) * with.columns;
                    x[i] |= inside ? (u32)with.v[index].bits << 16 * half : 0;
                }
            }
            put_chunk(b + 16 * place<TERMS / CHUNK>(column, part), make_uint4(x[0], x[1], x[2], x[3]));
        }
        await_copies<0>();
        __syncthreads();
        sums.template add<true, true, true>(shared, b, with.beta);
    }
}

// Two fours, wherever they are.
__device__ __forceinline__ void load_chunk(float (&x)[CHUNK], const float* low, const float* high) {
    float4 a = *(const float4*)low, b = *(const float4*)high;
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
__device__ __forceinline__ void store_chunk(float* low, float* high, const float (&x)[CHUNK]) {
    *(float4*)low = make_float4(x[0], x[1], x[2], x[3]);
    *(float4*)high = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ __forceinline__ void load_chunk(float (&x)[CHUNK], const float* at) { load_chunk(x, at, at + 4); }
__device__ __forceinline__ void load_chunk(float (&x)[CHUNK], const bf16* at) {
    uint4 bits = *(const uint4*)at;
    u32 pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = __uint_as_float(pairs[i] << 16);
        x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
}
__device__ __forceinline__ void store_chunk(float* at, const float (&x)[CHUNK]) { store_chunk(at, at + 4, x); }
__device__ __forceinline__ void store_chunk(bf16* at, const float (&x)[CHUNK]) {
    uint4 bits = {pair_bits(x[0], x[1]), pair_bits(x[2], x[3]), pair_bits(x[4], x[5]), pair_bits(x[6], x[7])};
    *(uint4*)at = bits;
}

// What a product is added to: null pointers for what there is not.
template <class TC>
struct Addends {
    const TC *start, *bias;
};

// The warp's own place in shared memory, for what it exchanges.
__device__ __forceinline__ float* own_stage() {
    return (float*)dynamic_shared + threadIdx.x / 32 * 16 * 32;
}

// Writes sums, with what is added to them; elements beyond m and n are left out. All warps have done with tiles.
template <class S, class TC>
__device__ __forceinline__ void write_sums(Sums<S>& sums, TC* c, u32 m, u32 n, const Addends<TC>& with) {
    bool whole = n % CHUNK == 0 && ((u64)c | (u64)with.start | (u64)with.bias) % 16 == 0;
    float* stage = own_stage();
#pragma unroll
    for (int part = 0; part < S::PARTS_DOWN; part++) {
        sums.template exchange<false>(stage, part);
        __syncwarp();
#pragma unroll 1
        for (u32 chunk = threadIdx.x % 32; chunk < 2 * S::WN; chunk += 32) {
            u32 r = chunk / (S::WN / CHUNK), e = chunk % (S::WN / CHUNK) * CHUNK;
            u32 row = blockIdx.x * S::M + sums.row() + 16 * part + r, column = blockIdx.y * S::N + sums.column() + e;
            if (row >= m || column >= n) continue;
            u64 index = (u64)row * n + column;
            if (whole) {
                float x[CHUNK], add[CHUNK];
                load_chunk(x, stage + staged(r, e), stage + staged(r, e + 4));
                if (with.start) {
                    load_chunk(add, with.start + index);
#pragma unroll
                    for (int i = 0; i < CHUNK; i++) x[i] += add[i];
                }
                if (with.bias) {
                    load_chunk(add, with.bias + column);
#pragma unroll
                    for (int i = 0; i < CHUNK; i++) x[i] += add[i];
                }
                store_chunk(c + index, x);
            } else {
#pragma unroll 1
                for (u32 i = 0; i < min(n - column, (u32)CHUNK); i++) {
                    float x = stage[staged(r, e + i)];
                    if (with.start) x += load(with.start + index + i);
                    if (with.bias) x += load(with.bias + column + i);
                    store(c + index + i, x);
                }
            }
        }
        __syncwarp();
    }
}

// Begins with sums of an earlier launch.
template <class S>
__device__ __forceinline__ void read_sums(Sums<S>& sums, const float* from, u32 m, u32 n) {
    bool whole = n % CHUNK == 0 && (u64)from % 16 == 0;
    float* stage = own_stage();
#pragma unroll
    for (int part = 0; part < S::PARTS_DOWN; part++) {
#pragma unroll 1
        for (u32 chunk = threadIdx.x % 32; chunk < 2 * S::WN; chunk += 32) {
            u32 r = chunk / (S::WN / CHUNK), e = chunk % (S::WN / CHUNK) * CHUNK;
            u32 row = blockIdx.x * S::M + sums.row() + 16 * part + r, column = blockIdx.y * S::N + sums.column() + e;
            u64 index = (u64)row * n + column;
            u32 count = row < m && column < n ? min(n - column, (u32)CHUNK) : 0;
            if (whole && count) {
                float x[CHUNK];
                load_chunk(x, from + index);
                store_chunk(stage + staged(r, e), stage + staged(r, e + 4), x);
            } else {
#pragma unroll 1
                for (u32 i = 0; i < CHUNK; i++) stage[staged(r, e + i)] = i < count ? from[index + i] : 0.0f;
            }
        }
        __syncwarp();
        sums.template exchange<true>(stage, part);
        __syncwarp();
    }
    // Tiles are brought to the same place.
    __syncthreads();
}

// c = start + alpha · a·b + bias + the low-rank term. b's terms lie along its lines if `along`.
template <class S, class A, class B, class TC>
__device__ __forceinline__ void tensor_product(
    const A& a, B b, bool along, TC* c, u32 m, u32 n, u32 k, float alpha, const Addends<TC>& with, const LowRank& low_rank) {
    __shared__ float table[B::TABLE];
    b.prepare(table);
    u32 shared = shared_address(dynamic_shared);
    Sums<S> sums = {};
    if (along) add_terms<S, true, true, false>(sums, shared, a, b, table, m, n, k, 1.0f);
    else add_terms<S, true, false, false>(sums, shared, a, b, table, m, n, k, 1.0f);
    sums.scale(alpha);
    if (low_rank.rank) add_low_rank<S>(sums, shared, low_rank, m, n);
    __syncthreads();
    write_sums<S>(sums, c, m, n, with);
}

// c = a·b, with the terms of either along its lines or across them.
template <class S>
__device__ __forceinline__ void tensor_matmul(const DenseFactor& a, bool a_along, const DenseFactor& b, bool b_along, bf16* c,
    u32 m, u32 n, u32 k) {
    u32 shared = shared_address(dynamic_shared);
    Sums<S> sums = {};
    if (a_along && b_along) add_terms<S, true, true, false>(sums, shared, a, b, 0, m, n, k, 1.0f);
    else if (a_along) add_terms<S, true, false, false>(sums, shared, a, b, 0, m, n, k, 1.0f);
    else if (b_along) add_terms<S, false, true, false>(sums, shared, a, b, 0, m, n, k, 1.0f);
    else add_terms<S, false, false, false>(sums, shared, a, b, 0, m, n, k, 1.0f);
    __syncthreads();
    write_sums<S, bf16>(sums, c, m, n, {0, 0});
}

// c [m, n] (+)= alpha · aᵀ·b in f32, a [k, m] with `stride` from row to row, b [k, n]; k in blocks of 32.
template <class S>
__device__ __forceinline__ void tensor_product_dw(
    const bf16* a, u64 stride, const bf16* b, float* c, u32 m, u32 n, u32 k, bool accumulate, float alpha) {
    u32 shared = shared_address(dynamic_shared);
    Sums<S> sums = {};
    if (accumulate) read_sums<S>(sums, c, m, n);
    add_terms<S, false, false, true>(sums, shared, DenseFactor(a, stride), DenseFactor(b, n), 0, m, n, k, alpha);
    __syncthreads();
    write_sums<S, float>(sums, c, m, n, {0, 0});
}

// M(shape, its name) for each.
#define FOR_SHAPES(M, ...) M(Wide, wide, __VA_ARGS__) M(Middle, middle, __VA_ARGS__) M(Narrow, narrow, __VA_ARGS__)
// Two blocks of the widest on a multiprocessor.
#define TENSOR_KERNEL(SHAPE) extern "C" __global__ void __launch_bounds__(SHAPE::THREADS, 2)
