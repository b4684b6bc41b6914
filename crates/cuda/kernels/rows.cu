// Elements moved in groups: group g of `size` elements goes from x + from + g·x_stride to y + to + g·y_stride. What split,
// concat, slice_rows and write_rows do. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void rows_##NAME(                                                        \
        const T* x, T* y, u64 from, u64 x_stride, u64 to, u64 y_stride, u64 size, u64 n) {         \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 group = i / size, at = i % size;                                                       \
        y[to + group * y_stride + at] = x[from + group * x_stride + at];                           \
    }
KERNEL(u16, 2)
KERNEL(u32, 4)
