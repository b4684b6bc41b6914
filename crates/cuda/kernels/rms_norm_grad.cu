// With x̂ = x·rstd and g = dy·w or dy·(1 + w): dx = rstd · (g − x̂ · mean(g·x̂)). A warp for each group, four a block.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void rms_norm_grad_##NAME(const T* dy, const T* x, const T* w, const float* rstd, \
        T* dx, float offset, u32 width, u32 groups) {                                              \
        u32 group = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                    \
        if (group >= groups) return;                                                               \
        u64 at = (u64)group * width;                                                               \
        float r = rstd[group], products = 0.0f;                                                    \
        for (u32 i = lane; i < width; i += 32)                                                     \
            products += load(dy + at + i) * (offset + load(w + i)) * (load(x + at + i) * r);       \
        float mean = warp_sum(products) / (float)width;                                            \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float g = load(dy + at + i) * (offset + load(w + i));                                  \
            store(dx + at + i, r * (g - load(x + at + i) * r * mean));                             \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
