// Factors of products on tensor cores: a matrix of lines of elements that lie one after the other, brought into a tile in shared
// memory a chunk of eight at a time. Dense ones are copied asynchronously, two tiles ahead; quantised ones are read one tile
// ahead and decoded on the way into shared memory.
#pragma once
#include "mma.cuh"
#include "weight.cuh"

// The elements of a tile that there are: lines before `lines`, elements of a line before `elements`.
struct Extent {
    u32 lines, elements;

    // How many of the chunk's elements there are.
    __device__ u32 within(u32 line, u32 element) const {
        return line < lines && element < elements ? min(elements - element, (u32)CHUNK) : 0;
    }
};

// A chunk of elements, each from what `element` makes of its number: the slow way, for ends and for lines that begin anywhere.
template <class Element>
__device__ __forceinline__ void put_pairs(u32 to, Element element) {
#pragma unroll 1
    for (u32 i = 0; i < CHUNK; i += 2) {
        u32 low = element(i), high = element(i + 1);
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(to + 2 * i), "r"(low | high << 16) : "memory");
    }
}

// bf16 as they are. `at` and `stride` are multiples of a chunk, or chunks are gathered element by element.
struct DenseFactor {
    const bf16* at;
    u64 stride;
    bool whole_chunks;

    enum { TABLE = 1, AHEAD = 2 };
    struct Read {};

    __device__ DenseFactor(const bf16* at, u64 stride)
        : at(at), stride(stride), whole_chunks(((u64)at | 2 * stride) % 16 == 0) {}
    __device__ void prepare(float*) {}
    __device__ void copy(u32 to, u32 line, u32 element, u32 count) const {
        const bf16* from = count ? at + line * stride + element : at;
        if (whole_chunks) {
            copy_async(to, from, 2 * count);
            return;
        }
        put_pairs(to, [&](u32 i) -> u32 { return i < count ? from[i].bits : 0; });
    }
    __device__ Read read(u32, u32, u32) const { return {}; }
    __device__ void decode(u32, const Read&, u32, u32, u32, const float*) const {}
};

// f32 at an offset that is nearly always a multiple of four: `aligned` says so for all of them.
__device__ __forceinline__ float number_at(const u8* at, bool aligned) {
    return aligned ? *(const float*)at : unaligned(at);
}

// NF4, as `Nf4` in weight.cuh. Chunks that begin at multiples of eight lie in four bytes and have one scale.
template <bool NESTED>
struct Nf4Factor {
    Nf4<bf16, NESTED> weight;
    u64 stride;

    enum { TABLE = Nf4<bf16, NESTED>::TABLE, AHEAD = 1 };
    struct Read {
        u32 codes, code;
        float scale;
    };

    __device__ void prepare(float* table) { weight.prepare(table); }
    __device__ void copy(u32, u32, u32, u32) const {}
    __device__ Read read(u32 line, u32 element, u32 count) const {
        Read read = {0, 0, 0.0f};
        u64 index = line * stride + element;
        if (count == 0 || index % CHUNK) return read;
        u64 block = index / 64;
        bool aligned = (NESTED ? weight.nested_scales : weight.scales) % 4 == 0;
        read.codes = count == CHUNK ? *(const u32*)(weight.bytes + index / 2) : 0;
        if (NESTED) {
            read.code = weight.bytes[weight.scales + block];
            read.scale = number_at(weight.bytes + weight.nested_scales + 4 * (block / 256), aligned);
        } else {
            read.scale = number_at(weight.bytes + weight.scales + 4 * block, aligned);
        }
        return read;
    }
    __device__ void decode(u32 to, const Read& read, u32 line, u32 element, u32 count, const float* table) const {
        u64 index = line * stride + element;
        if (count < CHUNK || index % CHUNK) {
            put_pairs(to, [&](u32 i) -> u32 { return i < count ? bf16_bits(weight.element(index + i, table)) : 0; });
            return;
        }
        float scale = read.scale;
        // Not fused: each step is rounded to f32.
        if (NESTED) scale = __fadd_rn(__fmul_rn(table[16 + read.code], scale), table[272]);
        u32 x[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 pair = read.codes >> 8 * i;
            x[i] = pair_bits(table[pair >> 4 & 15] * scale, table[pair & 15] * scale);
        }
        put_chunk(to, make_uint4(x[0], x[1], x[2], x[3]));
    }
};

// int8 with a scale for each row of the weight, as `Int8` in weight.cuh.
struct Int8Factor {
    Int8<bf16> weight;
    u64 stride;

    enum { TABLE = 1, AHEAD = 1 };
    struct Read {
        uint2 codes;
        float scale;
    };

    __device__ bool whole(u64 index, u32 count) const {
        return count == CHUNK && (index | weight.width) % CHUNK == 0;
    }
    __device__ void prepare(float*) {}
    __device__ void copy(u32, u32, u32, u32) const {}
    __device__ Read read(u32 line, u32 element, u32 count) const {
        Read read = {{0, 0}, 0.0f};
        u64 index = line * stride + element;
        if (!whole(index, count)) return read;
        read.codes = *(const uint2*)(weight.bytes + index);
        read.scale = number_at(weight.bytes + weight.scales + 4 * (index / weight.width), weight.scales % 4 == 0);
        return read;
    }
    __device__ void decode(u32 to, const Read& read, u32 line, u32 element, u32 count, const float* table) const {
        u64 index = line * stride + element;
        if (!whole(index, count)) {
            put_pairs(to, [&](u32 i) -> u32 { return i < count ? bf16_bits(weight.element(index + i, table)) : 0; });
            return;
        }
        u32 x[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 pair = (i < 2 ? read.codes.x : read.codes.y) >> 16 * (i % 2);
            float low = (float)(signed char)pair * read.scale * (1.0f / 127.0f);
            float high = (float)(signed char)(pair >> 8) * read.scale * (1.0f / 127.0f);
            x[i] = pair_bits(low, high);
        }
        put_chunk(to, make_uint4(x[0], x[1], x[2], x[3]));
    }
};
