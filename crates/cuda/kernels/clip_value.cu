// g := min(max(scale·g, −max), max); what is not a number stays one. One thread for each element.
#include "prelude.cuh"

extern "C" __global__ void clip_value_f32(float* g, const float* scale, float max, u64 n) {
    u64 i = global_index();
    if (i >= n) return;
    float x = g[i] * scale[0];
    g[i] = x > max ? max : x < -max ? -max : x;
}
