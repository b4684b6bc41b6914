// Tensor cores and what feeds them: `mma.sync` of bf16 with f32 sums, `ldmatrix`, `cp.async`, and tiles in shared memory that are
// written and read without bank conflicts.
//
// A *chunk* is 16 bytes: eight bf16, the unit of copies and of `ldmatrix`. A tile has rows of so many chunks; which place of its
// row a chunk takes is mixed with the row's number, so that eight chunks one below the other lie in different banks.
#pragma once
#include "prelude.cuh"

// Elements of a chunk.
#define CHUNK 8
// Terms of a sum that a tile of a product holds: two steps of `mma.sync`.
#define TERMS 32

// The place, in chunks, of a chunk in a tile whose rows have WIDTH of them: 4, or a multiple of 8.
template <int WIDTH>
__device__ __forceinline__ u32 place(u32 row, u32 chunk) {
    static_assert(WIDTH == 4 || WIDTH % 8 == 0, "rows of 64 or of whole 128 bytes");
    return row * WIDTH + (chunk ^ (WIDTH == 4 ? row >> 1 & 3 : row & 7));
}

__device__ __forceinline__ u32 shared_address(const void* at) {
    u32 address;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(address) : "l"(at));
    return address;
}

// Sends 16 bytes to shared memory, of which `given` are read and the others zero.
__device__ __forceinline__ void copy_async(u32 to, const void* from, u32 given) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(given) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most so many groups of this thread's copies are under way.
template <int OPEN>
__device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(OPEN) : "memory");
}

__device__ __forceinline__ void put_chunk(u32 to, uint4 x) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

// Four matrices of 8 × 8: lane 8i + r has the address of row r of matrix i; a lane gets elements 2 (lane % 4) and the next of row
// lane / 4 of each, or of that column of each.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(u32 (&x)[4], u32 address) {
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
}

// sums [16, 8] += a [16, 16] · b [16, 8].
__device__ __forceinline__ void multiply(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two numbers rounded to bf16, the first in the lower half.
__device__ __forceinline__ u32 pair_bits(float first, float second) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

// The fragment of rows `row` to row + 15 and terms `term` to term + 15 of a factor on the left: from a tile with a row for each
// of its rows and terms along them, or with a row for each term.
template <bool ALONG, int WIDTH>
__device__ __forceinline__ void left_fragment(u32 (&x)[4], u32 tile, u32 row, u32 term) {
    u32 lane = threadIdx.x % 32, matrix = lane / 8, r = lane % 8;
    u32 at = ALONG ? place<WIDTH>(row + lane % 16, term / CHUNK + lane / 16)
                   : place<WIDTH>(term + 8 * (matrix / 2) + r, row / CHUNK + matrix % 2);
    load_matrices<!ALONG>(x, tile + 16 * at);
}

// The two fragments of columns `column` to column + 15 and terms `term` to term + 15 of a factor on the right: x[0] and x[1] are
// the first eight columns'. From a tile with a row for each column and terms along them, or with a row for each term.
template <bool ALONG, int WIDTH>
__device__ __forceinline__ void right_fragments(u32 (&x)[4], u32 tile, u32 column, u32 term) {
    u32 lane = threadIdx.x % 32, matrix = lane / 8, r = lane % 8;
    u32 at = ALONG ? place<WIDTH>(column + 8 * (matrix / 2) + r, term / CHUNK + matrix % 2)
                   : place<WIDTH>(term + 8 * (matrix % 2) + r, column / CHUNK + matrix / 2);
    load_matrices<!ALONG>(x, tile + 16 * at);
}
