// Products of bf16 activations on tensor cores, one for each place of the leading axes, which broadcast: a place is a block along z.
#include "tensor_product.cuh"
#include "walk.cuh"

#define KERNEL(SHAPE, SIZE, ...)                                                                   \
    TENSOR_KERNEL(SHAPE) matmul_bf16_##SIZE(const bf16* a, const bf16* b, bf16* y, u64 a_rows, u64 a_columns, u64 b_rows, \
        u64 b_columns, u32 m, u32 n, u32 k, Walk<2> places) {                                      \
        u64 at[2];                                                                                 \
        places.offsets(blockIdx.z, at);                                                            \
        bool a_along = a_columns == 1, b_along = b_rows == 1;                                      \
        tensor_matmul<SHAPE>(DenseFactor(a + at[0] * m * k, a_along ? a_rows : a_columns), a_along, \
            DenseFactor(b + at[1] * k * n, b_along ? b_columns : b_rows), b_along, y + (u64)blockIdx.z * m * n, m, n, k); \
    }
FOR_SHAPES(KERNEL, )
