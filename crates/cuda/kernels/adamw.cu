// One step of AdamW, in place; the gradient is zeroed. The step's scalars are made in f64 by one thread of each block.
// Loshchilov and Hutter, Decoupled weight decay regularization, 2019, in PyTorch's order of operations.
#include "power.cuh"

extern "C" __global__ void adamw_f32(float* p, float* g, float* m, float* v, const float* lr, const int* step,
    const float* grad_scale, double beta1, double beta2, float eps, double weight_decay, u64 n) {
    __shared__ float decay, step_size, inverse_root_correction;
    if (threadIdx.x == 0) {
        double rate = (double)lr[0];
        decay = (float)(1.0 - rate * weight_decay);
        step_size = (float)(rate / (1.0 - power(beta1, (u32)step[0])));
        inverse_root_correction = (float)(1.0 / sqrt(1.0 - power(beta2, (u32)step[0])));
    }
    __syncthreads();
    u64 i = global_index();
    if (i >= n) return;
    float gradient = g[i] * grad_scale[0];
    float first = m[i] + (float)(1.0 - beta1) * (gradient - m[i]);
    float second = (float)beta2 * v[i] + (float)(1.0 - beta2) * (gradient * gradient);
    float root = sqrtf(second) * inverse_root_correction + eps;
    p[i] = p[i] * decay - step_size * first / root;
    g[i] = 0.0f;
    m[i] = first;
    v[i] = second;
}
