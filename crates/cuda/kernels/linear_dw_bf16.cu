// dW (+)= alpha · Σ over tokens of a ⊗ b on tensor cores: c [m, n] in f32, a [k, m] and b [k, n] in bf16, tokens in blocks of 32.
#include "tensor_product.cuh"

#define KERNEL(SHAPE, SIZE, ...)                                                                   \
    TENSOR_KERNEL(SHAPE) linear_dw_bf16_##SIZE(                                                    \
        const bf16* a, const bf16* b, float* c, u32 m, u32 n, u32 k, u32 accumulate, float alpha) { \
        tensor_product_dw<SHAPE>(a, m, b, c, m, n, k, accumulate, alpha);                          \
    }
FOR_SHAPES(KERNEL, )
