// y = x · rstd · w or x · rstd · (1 + w), rstd = 1/√(mean(x²) + eps), over groups as wide as w. A warp for each group, four a
// block; lane l sums elements l, l + 32, … in ascending order.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void rms_norm_##NAME(                                                    \
        const T* x, const T* w, T* y, float* rstd, float offset, float eps, u32 width, u32 groups) { \
        u32 group = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                    \
        if (group >= groups) return;                                                               \
        const T* row = x + (u64)group * width;                                                     \
        float squares = 0.0f;                                                                      \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float v = load(row + i);                                                               \
            squares += v * v;                                                                      \
        }                                                                                          \
        float r = 1.0f / sqrtf(warp_sum(squares) / (float)width + eps);                            \
        for (u32 i = lane; i < width; i += 32)                                                     \
            store(y + (u64)group * width + i, load(row + i) * r * (offset + load(w + i)));         \
        if (lane == 0) rstd[group] = r;                                                            \
    }
FOR_FLOATS(KERNEL)
