// What every kernel stands on: number types, their loads and stores, sums over a warp, Philox.
//
// Arithmetic is f32 throughout; a result is rounded to its type once, where it is stored. Nothing here or in any kernel
// depends on the order in which warps or blocks run: there are no atomics, and sums go in an order that sizes alone fix.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// The upper half of an f32.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float load(const float* at) { return *at; }
__device__ __forceinline__ float load(const bf16* at) { return __uint_as_float((u32)at->bits << 16); }

__device__ __forceinline__ u16 bf16_bits(float x) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ void store(float* at, float x) { *at = x; }
__device__ __forceinline__ void store(bf16* at, float x) { at->bits = bf16_bits(x); }

// x as the type holds it.
__device__ __forceinline__ float rounded(float x, const float*) { return x; }
__device__ __forceinline__ float rounded(float x, const bf16*) { return __uint_as_float((u32)bf16_bits(x) << 16); }

// Index of this thread in a grid of one axis.
__device__ __forceinline__ u64 global_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

#define FULL_WARP 0xffffffffu

// The sum over the lanes of a warp, the same in every lane: pairs at distance 16 first.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(FULL_WARP, x, distance);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, distance));
    return x;
}

// A kernel for each type of activations: M(type, its name).
#define FOR_FLOATS(M) M(float, f32) M(bf16, bf16)
