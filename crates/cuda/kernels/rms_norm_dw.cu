// dw (+)= Σ over rows and groups of dy · x · rstd; groups of a row in ascending order. A thread for each element of w.
#include "column_sums.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void rms_norm_dw_##NAME(const T* dy, const T* x, const float* rstd, float* dw, \
        u32 accumulate, u32 width, u32 groups, u32 rows) {                                         \
        u32 column = blockIdx.x * blockDim.x + threadIdx.x;                                        \
        if (column >= width) return;                                                               \
        auto term = [=](u32 row) {                                                                 \
            float sum = 0.0f;                                                                      \
            for (u32 g = 0; g < groups; g++) {                                                     \
                u64 group = (u64)row * groups + g, at = group * width + column;                    \
                sum += load(dy + at) * load(x + at) * rstd[group];                                 \
            }                                                                                      \
            return sum;                                                                            \
        };                                                                                         \
        dw[column] = column_sum(accumulate ? dw[column] : 0.0f, rows, term);                       \
    }
FOR_FLOATS(KERNEL)
