// Products of activations, one for each place of the leading axes, which broadcast: a place is a block along z. See product.cuh. In f32.
#include "product.cuh"
#include "walk.cuh"

#define KERNEL(TILE, SUB, SIZE, T, NAME)                                                           \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void matmul_##NAME##_##SIZE( \
        const T* a, const T* b, T* y, u64 a_rows, u64 a_columns, u64 b_rows, u64 b_columns, u32 m, u32 n, u32 k, \
        Walk<2> places) {                                                                          \
        u64 at[2];                                                                                 \
        places.offsets(blockIdx.z, at);                                                            \
        Epilogue<T, T> e = {0, 0, 1.0f, 0xffffffffu, 0, 0, {0, 0}, 0, 0.0f};                       \
        product<TILE, SUB>(a + at[0] * m * k, {a_rows, a_columns}, Dense<T>{b + at[1] * k * n}, {b_rows, b_columns}, \
            y + (u64)blockIdx.z * m * n, m, n, k, e);                                              \
    }
#define KERNELS(T, NAME) FOR_TILES(KERNEL, T, NAME)
KERNELS(float, f32)
