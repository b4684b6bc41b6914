// dW (+)= alpha · Σ over tokens of a ⊗ b: c [m, n] in f32, a [k, m], b [k, n], tokens in blocks (see column_sums.cuh).
#include "column_sums.cuh"
#include "product.cuh"

#define KERNEL(TILE, SUB, SIZE, T, NAME)                                                           \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void linear_dw_##NAME##_##SIZE( \
        const T* a, const T* b, float* c, u32 m, u32 n, u32 k, u32 accumulate, float alpha) {      \
        Epilogue<T, float> e = {accumulate ? c : 0, 0, alpha, TOKEN_BLOCK, 0, 0, {0, 0}, 0, 0.0f}; \
        product<TILE, SUB>(a, {1, m}, Dense<T>{b}, {n, 1}, c, m, n, k, e);                         \
    }
#define KERNELS(T, NAME) FOR_TILES(KERNEL, T, NAME)
KERNELS(float, f32)
