// The loss of each row of logits with its class, and lse: (1 − ε)·w[y]·(lse − z[y]) + ε/C · Σ w[c]·(lse − z[c]). A warp for each
// row, four a block.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void cross_entropy_##NAME(const T* logits, const int* targets, const float* weights, \
        float* loss, float* lse, float smoothing, int ignored, u32 classes, u32 rows) {            \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        const T* row = logits + (u64)n * classes;                                                  \
        float most = __int_as_float(0xff800000), sum = 0.0f, smooth = 0.0f;                        \
        for (u32 c = lane; c < classes; c += 32) most = fmaxf(most, load(row + c));                \
        most = warp_max(most);                                                                     \
        for (u32 c = lane; c < classes; c += 32) sum += expf(load(row + c) - most);                \
        float total = most + logf(warp_sum(sum));                                                  \
        int target = targets[n];                                                                   \
        bool known = target >= 0 && target < (int)classes;                                         \
        if (smoothing > 0.0f && target != ignored)                                                 \
            for (u32 c = lane; c < classes; c += 32)                                               \
                smooth += (weights ? weights[c] : 1.0f) * (total - load(row + c));                 \
        smooth = warp_sum(smooth);                                                                 \
        if (lane != 0) return;                                                                     \
        lse[n] = total;                                                                            \
        float own = __int_as_float(0x7fc00000);                                                    \
        if (known) own = (weights ? weights[target] : 1.0f) * (total - load(row + target));        \
        float made = (1.0f - smoothing) * own + smoothing / (float)classes * smooth;               \
        loss[n] = target == ignored ? 0.0f : made;                                                 \
    }
FOR_FLOATS(KERNEL)
