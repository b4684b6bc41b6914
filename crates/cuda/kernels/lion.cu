// One step of Lion, in place; the gradient is zeroed. The sign of 0 is 0; what is not a number stays one. Chen et al., 2023. One
// thread for each element.
#include "prelude.cuh"

extern "C" __global__ void lion_f32(float* p, float* g, float* m, const float* lr, const float* grad_scale, double beta1,
    double beta2, double weight_decay, u64 n) {
    u64 i = global_index();
    if (i >= n) return;
    float gradient = g[i] * grad_scale[0], old = m[i];
    float direction = (float)beta1 * old + (float)(1.0 - beta1) * gradient;
    float sign = direction > 0.0f ? 1.0f : direction < 0.0f ? -1.0f : direction;
    float decay = (float)(1.0 - (double)lr[0] * weight_decay);
    p[i] = p[i] * decay - lr[0] * sign;
    g[i] = 0.0f;
    m[i] = (float)beta2 * old + (float)(1.0 - beta2) * gradient;
}
