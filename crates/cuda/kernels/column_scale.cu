// y = x · (w / norm), a factor for each column. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void column_scale_##NAME(                                                \
        const T* x, const float* w, const float* norm, T* y, u32 width, u64 n) {                   \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, load(x + i) * (w[i % width] / norm[i % width]));                   \
    }
FOR_FLOATS(KERNEL)
