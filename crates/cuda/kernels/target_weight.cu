// w[target], 1 where there are no weights, 0 where the target is ignored. One thread for each target.
#include "prelude.cuh"

extern "C" __global__ void target_weight_f32(
    const int* targets, const float* weights, float* y, int ignored, u32 classes, u64 n) {
    u64 i = global_index();
    if (i >= n) return;
    int target = targets[i];
    bool known = target >= 0 && target < (int)classes;
    float weight = !weights ? 1.0f : known ? weights[target] : __int_as_float(0x7fc00000);
    y[i] = target == ignored ? 0.0f : weight;
}
