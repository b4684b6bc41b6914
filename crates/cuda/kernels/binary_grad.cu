// dy·∂f/∂a or dy·∂f/∂b, in the result's shape. One thread for each element.
#include "walk.cuh"

__device__ float share(float a, float b, bool greater) { return a == b ? 0.5f : greater ? 1.0f : 0.0f; }

__device__ float slope(u32 function, u32 operand, float a, float b) {
    switch (2 * function + operand) {
    case 0: case 1: case 2: return 1.0f;
    case 3: return -1.0f;
    case 4: return b;
    case 5: return a;
    case 6: return 1.0f / b;
    case 7: return -a / (b * b);
    case 8: return b == 0.0f ? 0.0f : b * powf(a, b - 1.0f);
    case 9: return a == 0.0f && b >= 0.0f ? 0.0f : powf(a, b) * logf(a);
    case 10: case 13: return share(a, b, a > b);
    default: return share(a, b, a < b);
    }
}

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void binary_grad_##NAME(const T* dy, const T* a, const T* b, T* dx, u32 function, \
        u32 operand, Walk<2> walk, u64 n) {                                                        \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[2];                                                                                 \
        walk.offsets(i, at);                                                                       \
        store(dx + i, load(dy + i) * slope(function, operand, load(a + at[0]), load(b + at[1])));  \
    }
FOR_FLOATS(KERNEL)
