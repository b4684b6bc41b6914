// dw (+)= Σ over rows of dy · x / norm. A thread for each column.
#include "column_sums.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void column_scale_dw_##NAME(const T* dy, const T* x, const float* norm, float* dw, \
        u32 accumulate, u32 width, u32 rows) {                                                     \
        u32 column = blockIdx.x * blockDim.x + threadIdx.x;                                        \
        if (column >= width) return;                                                               \
        float divisor = norm[column];                                                              \
        auto term = [=](u32 row) {                                                                 \
            u64 at = (u64)row * width + column;                                                    \
            return load(dy + at) * load(x + at) / divisor;                                         \
        };                                                                                         \
        dw[column] = column_sum(accumulate ? dw[column] : 0.0f, rows, term);                       \
    }
FOR_FLOATS(KERNEL)
