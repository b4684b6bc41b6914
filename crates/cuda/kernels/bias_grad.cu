// db (+)= Σ over rows of dy. A thread for each column.
#include "column_sums.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void bias_grad_##NAME(const T* dy, float* db, u32 accumulate, u32 width, u32 rows) { \
        u32 column = blockIdx.x * blockDim.x + threadIdx.x;                                        \
        if (column >= width) return;                                                               \
        auto term = [=](u32 row) { return load(dy + (u64)row * width + column); };                 \
        db[column] = column_sum(accumulate ? db[column] : 0.0f, rows, term);                       \
    }
FOR_FLOATS(KERNEL)
