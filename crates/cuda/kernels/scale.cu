// y = factor · x. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void scale_##NAME(const T* x, T* y, float factor, u64 n) {                \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, factor * load(x + i));                                             \
    }
FOR_FLOATS(KERNEL)
