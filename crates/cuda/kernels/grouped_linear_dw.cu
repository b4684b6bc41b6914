// The gradient of one expert's weight: c [m, n] (+)= alpha · Σ over the rows of its group of a ⊗ b, rows in blocks.
#include "column_sums.cuh"
#include "group.cuh"
#include "product.cuh"

#define KERNEL(TILE, SUB, SIZE, T, NAME)                                                           \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void grouped_linear_dw_##NAME##_##SIZE( \
        const int* ends, const T* a, const T* b, float* c, u32 group, u32 m, u32 n, u32 rows, u32 accumulate, \
        float alpha) {                                                                             \
        Group of(ends, group, rows);                                                               \
        Epilogue<T, float> e = {accumulate ? c : 0, 0, alpha, TOKEN_BLOCK, 0, 0, {0, 0}, 0, 0.0f}; \
        product<TILE, SUB>(a + (u64)of.first * m, {1, m}, Dense<T>{b + (u64)of.first * n}, {n, 1}, c, m, n, of.count, e); \
    }
#define KERNELS(T, NAME) FOR_TILES(KERNEL, T, NAME)
KERNELS(float, f32)
