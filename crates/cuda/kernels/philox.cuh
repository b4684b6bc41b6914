// Philox4x32-10, the counter-based generator behind dropout: the bits of `remat_tensor::Philox`.
// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011.
#pragma once
#include "prelude.cuh"

struct Philox {
    u32 key0, key1, stream0, stream1;

    // Four words for the elements 4·index to 4·index + 3.
    __device__ uint4 block(u64 index) const {
        u32 c0 = (u32)index, c1 = (u32)(index >> 32), c2 = stream0, c3 = stream1, k0 = key0, k1 = key1;
#pragma unroll
        for (int round = 0; round < 10; round++) {
            u32 low_high = __umulhi(c0, 0xD2511F53u), low = c0 * 0xD2511F53u;
            u32 high_high = __umulhi(c2, 0xCD9E8D57u), high = c2 * 0xCD9E8D57u;
            c0 = high_high ^ c1 ^ k0;
            c1 = high;
            c2 = low_high ^ c3 ^ k1;
            c3 = low;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        return make_uint4(c0, c1, c2, c3);
    }

    // The word of one element.
    __device__ u32 word(u64 element) const {
        uint4 words = block(element / 4);
        u32 at = (u32)element % 4;
        return at == 0 ? words.x : at == 1 ? words.y : at == 2 ? words.z : words.w;
    }
};

// The generator of an op: rng is (seed low, seed high, step, micro-batch), which are mixed into the key.
__device__ __forceinline__ Philox philox_of_op(const u32* rng, u64 stream) {
    Philox seed = {rng[0], rng[1], rng[2], rng[3]};
    uint4 mixed = seed.block(stream);
    Philox made = {mixed.x, mixed.y, (u32)stream, (u32)(stream >> 32)};
    return made;
}

// Dropout with a probability: an element whose word is below the threshold is dropped, others are multiplied by scale.
struct Dropout {
    Philox philox;
    u32 threshold;
    float scale;

    __device__ float factor(u64 element) const { return philox.word(element) >= threshold ? scale : 0.0f; }
};
