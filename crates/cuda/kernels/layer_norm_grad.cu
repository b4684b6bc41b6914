// With x̂ = (x − mean)·rstd and g = dy·w: dx = rstd · (g − mean(g) − x̂ · mean(g·x̂)). A warp for each row, four a block.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void layer_norm_grad_##NAME(const T* dy, const T* x, const T* w, const float* mean, \
        const float* rstd, T* dx, u32 width, u32 rows) {                                           \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        u64 at = (u64)n * width;                                                                   \
        float m = mean[n], r = rstd[n], sum = 0.0f, products = 0.0f;                               \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float g = load(dy + at + i) * load(w + i);                                             \
            sum += g;                                                                              \
            products += g * ((load(x + at + i) - m) * r);                                          \
        }                                                                                          \
        float mean_g = warp_sum(sum) / (float)width, mean_gx = warp_sum(products) / (float)width;  \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float g = load(dy + at + i) * load(w + i), normed = (load(x + at + i) - m) * r;        \
            store(dx + at + i, r * (g - mean_g - normed * mean_gx));                               \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
