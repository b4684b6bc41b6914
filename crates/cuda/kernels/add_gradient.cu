// sum += g, and g = 0 for the next micro-batch. One thread for each element.
#include "prelude.cuh"

extern "C" __global__ void add_gradient_f32(float* sum, float* g, u64 n) {
    u64 i = global_index();
    if (i >= n) return;
    sum[i] += g[i];
    g[i] = 0.0f;
}
