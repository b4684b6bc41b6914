// y = f(a, b) with broadcasting. Functions are numbered as in the recipe. One thread for each element of y.
#include "walk.cuh"

__device__ float binary(u32 function, float a, float b) {
    switch (function) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a / b;
    case 4: return powf(a, b);
    case 5: return isnan(a) || isnan(b) ? a + b : fmaxf(a, b);
    default: return isnan(a) || isnan(b) ? a + b : fminf(a, b);
    }
}

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void binary_##NAME(const T* a, const T* b, T* y, u32 function, Walk<2> walk, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[2];                                                                                 \
        walk.offsets(i, at);                                                                       \
        store(y + i, binary(function, load(a + at[0]), load(b + at[1])));                          \
    }
FOR_FLOATS(KERNEL)
