// Weights as products read them, by element index: dense, or of four or eight bits and decoded on the way.
#pragma once
#include "prelude.cuh"

// A little-endian f32 at any alignment.
__device__ __forceinline__ float unaligned(const u8* at) {
    return __uint_as_float((u32)at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24);
}

// Elements of type W.
template <class W>
struct Dense {
    const W* at;

    enum { TABLE = 1 };
    __device__ void prepare(float*) {}
    __device__ float element(u64 index, const float*) const { return load(at + index); }
};

// NF4 with scales of eight bits (NESTED) or of f32: `remat_tensor::nf4` has the layout. Numbers are rounded to T, which what
// they are multiplied with has.
template <class T, bool NESTED>
struct Nf4 {
    const u8* bytes;
    u64 scales, nested_scales, nested_map, offset, map;

    enum { TABLE = NESTED ? 16 + 256 + 1 : 16 };
    // Fills a table in shared memory; the caller waits for all threads.
    __device__ void prepare(float* table) {
        for (u32 i = threadIdx.x; i < TABLE; i += blockDim.x)
            table[i] = unaligned(bytes + (i < 16 ? map + 4 * i : i < 272 ? nested_map + 4 * (i - 16) : offset));
    }
    __device__ float element(u64 index, const float* table) const {
        u64 block = index / 64;
        float scale;
        if (NESTED) {
            // Not fused: each step is rounded to f32.
            float number = table[16 + bytes[scales + block]];
            scale = __fadd_rn(__fmul_rn(number, unaligned(bytes + nested_scales + 4 * (block / 256))), table[272]);
        } else {
            scale = unaligned(bytes + scales + 4 * block);
        }
        u8 pair = bytes[index / 2];
        return rounded(table[index % 2 ? pair & 15 : pair >> 4] * scale, (const T*)0);
    }
};

// int8 with a scale for each row of `width` elements: `remat_tensor::int8` has the layout.
template <class T>
struct Int8 {
    const u8* bytes;
    u64 scales;
    u32 width;

    enum { TABLE = 1 };
    __device__ void prepare(float*) {}
    __device__ float element(u64 index, const float*) const {
        float scale = unaligned(bytes + scales + 4 * (index / width));
        return rounded((float)(signed char)bytes[index] * scale * (1.0f / 127.0f), (const T*)0);
    }
};
