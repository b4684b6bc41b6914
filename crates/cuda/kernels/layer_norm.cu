// y = (x − mean) · rstd · w + b, rstd = 1/√(variance + eps); the variance is that of the centred numbers, so that a mean far
// from 0 costs nothing. A warp for each row, four a block.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void layer_norm_##NAME(const T* x, const T* w, const T* b, T* y, float* mean, \
        float* rstd, float eps, u32 width, u32 rows) {                                             \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        const T* row = x + (u64)n * width;                                                         \
        float sum = 0.0f, squares = 0.0f;                                                          \
        for (u32 i = lane; i < width; i += 32) sum += load(row + i);                               \
        float m = warp_sum(sum) / (float)width;                                                    \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float v = load(row + i) - m;                                                           \
            squares += v * v;                                                                      \
        }                                                                                          \
        float r = 1.0f / sqrtf(warp_sum(squares) / (float)width + eps);                            \
        for (u32 i = lane; i < width; i += 32)                                                     \
            store(y + (u64)n * width + i, (load(row + i) - m) * r * load(w + i) + load(b + i));    \
        if (lane == 0) {                                                                           \
            mean[n] = m;                                                                           \
            rstd[n] = r;                                                                           \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
