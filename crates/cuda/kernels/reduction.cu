// Sums of all elements in one block of 256 threads: each thread takes every 256th element in ascending order, in f64; then
// the threads' sums are added in a tree.
#include "prelude.cuh"

// The sum over the block, in thread 0.
__device__ double block_sum(double x) {
    __shared__ double sums[256];
    sums[threadIdx.x] = x;
    __syncthreads();
    for (u32 half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

extern "C" __global__ void sum_f32(const float* x, float* y, u64 n) {
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < n; i += 256) sum += (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[0] = (float)sum;
}

// norm := √(norm² + Σ g²), or √Σ g² for the first of several tensors.
extern "C" __global__ void grad_norm_f32(const float* g, float* norm, u32 first, u64 n) {
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < n; i += 256) sum += (double)g[i] * (double)g[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    double before = first ? 0.0 : (double)norm[0];
    norm[0] = (float)sqrt(before * before + sum);
}

// min(1, max_norm / (norm + 1e-6)); a norm that is not a number stays one.
extern "C" __global__ void clip_scale_f32(const float* norm, float* scale, float max_norm, u32 unlimited) {
    float of = norm[0], factor = max_norm / (of + 1e-6f);
    bool whole = factor > 1.0f || (unlimited && !isnan(of));
    scale[0] = whole ? 1.0f : factor;
}
