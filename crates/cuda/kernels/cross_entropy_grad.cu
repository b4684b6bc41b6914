// dz[c] = dloss · ((1 − ε)·w[y]·(p[c] − [c = y]) + ε/C · (W·p[c] − w[c])), W = Σ w; 0 where the target is ignored. A warp for
// each row, four a block. dz may be the logits.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void cross_entropy_grad_##NAME(const T* logits, const int* targets, const float* lse, \
        const float* dloss, const float* weights, T* dz, float smoothing, int ignored, u32 classes, u32 rows) { \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        int target = targets[n];                                                                   \
        bool known = target >= 0 && target < (int)classes;                                         \
        float total = 0.0f, own = __int_as_float(0x7fc00000);                                      \
        for (u32 c = lane; c < classes; c += 32) total += weights ? weights[c] : 1.0f;             \
        total = warp_sum(total);                                                                   \
        if (known) own = (1.0f - smoothing) * (weights ? weights[target] : 1.0f);                  \
        float share = smoothing / (float)classes, slope = dloss[n], its_lse = lse[n];              \
        for (u32 c = lane; c < classes; c += 32) {                                                 \
            u64 at = (u64)n * classes + c;                                                         \
            float p = expf(load(logits + at) - its_lse), weight = weights ? weights[c] : 1.0f;     \
            float d = own * (p - (target == (int)c ? 1.0f : 0.0f)) + share * (total * p - weight); \
            store(dz + at, target == ignored ? 0.0f : slope * d);                                  \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
