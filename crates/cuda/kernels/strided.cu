// Elements moved by strides: y[to + b] = x[from + a], with a and b from a walk. What transpose, expand, slice and pad do. One thread
// for each element.
#include "walk.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void strided_##NAME(const T* x, T* y, u64 from, u64 to, Walk<2> walk, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[2];                                                                                 \
        walk.offsets(i, at);                                                                       \
        y[to + at[1]] = x[from + at[0]];                                                           \
    }
KERNEL(u16, 2)
KERNEL(u32, 4)

// Every element of y is one value.
#define FILL(T, NAME)                                                                              \
    extern "C" __global__ void fill_##NAME(T* y, float value, u64 n) {                              \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, value);                                                            \
    }
FOR_FLOATS(FILL)
