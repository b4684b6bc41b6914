// Fills words with one value. One thread for each.
#include "prelude.cuh"

extern "C" __global__ void zeros_u32(u32* y, u32 word, u64 n) {
    u64 i = global_index();
    if (i < n) y[i] = word;
}

// The same for what is not whole words.
extern "C" __global__ void zeros_u8(u8* y, u32 byte, u64 n) {
    u64 i = global_index();
    if (i < n) y[i] = (u8)byte;
}
