// cache[b, positions[b, t]] = x[b, t]; of two rows for one position the later stays. A block for each (b, t); a row that is
// written again later is left out, so that no two blocks write one element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void cache_write_##NAME(                                                 \
        T* cache, const T* x, const int* positions, u32 tokens, u32 capacity, u32 width) {         \
        u32 t = blockIdx.x % tokens, b = blockIdx.x / tokens;                                      \
        int position = positions[blockIdx.x];                                                      \
        if (position < 0 || position >= (int)capacity) return;                                     \
        for (u32 later = t + 1; later < tokens; later++)                                           \
            if (positions[b * tokens + later] == position) return;                                 \
        for (u32 i = threadIdx.x; i < width; i += blockDim.x)                                      \
            cache[((u64)b * capacity + position) * width + i] = x[(u64)blockIdx.x * width + i];    \
    }
KERNEL(u16, bf16)
KERNEL(u32, f32)
