// y = x / (1 − p) where word `first + i` of the stream is at least the threshold, else 0, even where x is not finite.
// One thread for each element.
#include "philox.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void dropout_##NAME(                                                     \
        const T* x, const u32* rng, T* y, u64 stream, u64 first, u32 threshold, float scale, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        Dropout dropout = {philox_of_op(rng, stream), threshold, scale};                           \
        float factor = dropout.factor(first + i);                                                  \
        store(y + i, factor == 0.0f ? 0.0f : load(x + i) * factor);                                \
    }
FOR_FLOATS(KERNEL)
