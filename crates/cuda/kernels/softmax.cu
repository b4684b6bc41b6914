// y = eˣ/Σeˣ along rows, or its logarithm; and dx = y·(dy − Σ dy·y), of the logarithm dy − eʸ·Σ dy. A warp for each row, four a
// block; y may be x, dx may be dy or y.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void softmax_##NAME(const T* x, T* y, u32 log, u32 width, u32 rows) {     \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        u64 row = (u64)n * width;                                                                  \
        float most = __int_as_float(0xff800000), sum = 0.0f;                                       \
        for (u32 i = lane; i < width; i += 32) most = fmaxf(most, load(x + row + i));              \
        most = warp_max(most);                                                                     \
        for (u32 i = lane; i < width; i += 32) sum += expf(load(x + row + i) - most);              \
        sum = warp_sum(sum);                                                                       \
        float log_sum = logf(sum);                                                                 \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float z = load(x + row + i) - most;                                                    \
            store(y + row + i, log ? z - log_sum : expf(z) / sum);                                 \
        }                                                                                          \
    }                                                                                              \
    extern "C" __global__ void softmax_grad_##NAME(                                                \
        const T* dy, const T* y, T* dx, u32 log, u32 width, u32 rows) {                            \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= rows) return;                                                                     \
        u64 row = (u64)n * width;                                                                  \
        float sum = 0.0f;                                                                          \
        for (u32 i = lane; i < width; i += 32)                                                     \
            sum += load(dy + row + i) * (log ? 1.0f : load(y + row + i));                          \
        sum = warp_sum(sum);                                                                       \
        for (u32 i = lane; i < width; i += 32) {                                                   \
            float d = load(dy + row + i), of = load(y + row + i);                                  \
            store(dx + row + i, log ? d - expf(of) * sum : of * (d - sum));                        \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
