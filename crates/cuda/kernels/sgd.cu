// One step of SGD, in place; the gradient is zeroed. m is the buffer of momentum, or none. One thread for each element.
#include "prelude.cuh"

extern "C" __global__ void sgd_f32(float* p, float* g, float* m, const float* lr, const float* grad_scale, float momentum,
    u32 nesterov, float weight_decay, u64 n) {
    u64 i = global_index();
    if (i >= n) return;
    float gradient = g[i] * grad_scale[0] + weight_decay * p[i], direction = gradient;
    if (m) {
        float kept = momentum * m[i] + gradient;
        m[i] = kept;
        direction = nesterov ? gradient + momentum * kept : kept;
    }
    p[i] -= lr[0] * direction;
    g[i] = 0.0f;
}
