// Every element of y is s[0]. One thread for each element.
#include "prelude.cuh"

extern "C" __global__ void broadcast_f32(const float* s, float* y, u64 n) {
    u64 i = global_index();
    if (i < n) y[i] = s[0];
}
