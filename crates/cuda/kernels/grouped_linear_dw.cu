// The gradient of one expert's weight: c [m, n] (+)= alpha · Σ over the rows of its group of a ⊗ b, rows in blocks.
#include "column_sums.cuh"
#include "product.cuh"

#define KERNEL(TILE, SUB, SIZE, T, NAME)                                                           \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void grouped_linear_dw_##NAME##_##SIZE( \
        const int* ends, const T* a, const T* b, float* c, u32 group, u32 m, u32 n, u32 rows, u32 accumulate, \
        float alpha) {                                                                             \
        u32 before = group ? (u32)max(ends[group - 1], 0) : 0, end = min((u32)max(ends[group], 0), rows); \
        u32 first = min(before, end);                                                              \
        Epilogue<T, float> e = {accumulate ? c : 0, 0, alpha, TOKEN_BLOCK, 0, 0, {0, 0}, 0, 0.0f}; \
        product<TILE, SUB>(a + (u64)first * m, {1, m}, Dense<T>{b + (u64)first * n}, {n, 1}, c, m, n, end - first, e); \
    }
#define KERNELS(T, NAME) FOR_TILES(KERNEL, T, NAME)
FOR_FLOATS(KERNELS)
