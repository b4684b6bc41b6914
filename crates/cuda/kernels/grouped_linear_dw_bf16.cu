// The gradient of one expert's weight on tensor cores: c [m, n] (+)= alpha · Σ over the rows of its group of a ⊗ b.
#include "group.cuh"
#include "tensor_product.cuh"

#define KERNEL(SHAPE, SIZE, ...)                                                                   \
    TENSOR_KERNEL(SHAPE) grouped_linear_dw_bf16_##SIZE(const int* ends, const bf16* a, const bf16* b, float* c, u32 group, \
        u32 m, u32 n, u32 rows, u32 accumulate, float alpha) {                                     \
        Group of(ends, group, rows);                                                               \
        tensor_product_dw<SHAPE>(                                                                  \
            a + (u64)of.first * m, m, b + (u64)of.first * n, c, m, n, of.count, accumulate, alpha); \
    }
FOR_SHAPES(KERNEL, )
