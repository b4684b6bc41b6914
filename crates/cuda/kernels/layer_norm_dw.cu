// dw (+)= Σ over rows of dy · (x − mean) · rstd, db (+)= Σ of dy. A thread for each column.
#include "column_sums.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void layer_norm_dw_##NAME(const T* dy, const T* x, const float* mean, const float* rstd, \
        float* dw, float* db, u32 accumulate, u32 width, u32 rows) {                               \
        u32 column = blockIdx.x * blockDim.x + threadIdx.x;                                        \
        if (column >= width) return;                                                               \
        auto weight = [=](u32 row) {                                                               \
            u64 at = (u64)row * width + column;                                                    \
            return load(dy + at) * ((load(x + at) - mean[row]) * rstd[row]);                       \
        };                                                                                         \
        auto bias = [=](u32 row) { return load(dy + (u64)row * width + column); };                 \
        dw[column] = column_sum(accumulate ? dw[column] : 0.0f, rows, weight);                     \
        db[column] = column_sum(accumulate ? db[column] : 0.0f, rows, bias);                       \
    }
FOR_FLOATS(KERNEL)
