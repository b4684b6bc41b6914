// The head in bf16 on tensor cores, a chunk of tokens at a time: logits in f32, their softmax, its gradient in bf16 in the first half
// of each row of logits, and the products with it.
#include "head_softmax.cuh"
#include "tensor_product.cuh"

// logits [m, n] = h [m, k] · wᵀ + u [m, rank] · upᵀ, with w [n, k] and up [n, rank].
#define LOGITS(SHAPE, SIZE, ...)                                                                   \
    TENSOR_KERNEL(SHAPE) head_logits_bf16_##SIZE(const bf16* h, const bf16* w, const bf16* u, const bf16* up, float* logits, \
        u32 m, u32 n, u32 k, u32 rank) {                                                           \
        tensor_product<SHAPE>(DenseFactor(h, k), DenseFactor(w, k), true, logits, m, n, k, 1.0f, Addends<float>{0, 0}, \
            LowRank{u, up, 1, rank, rank, 1.0f});                                                  \
    }

// dx [m, n] = dlogits [m, k] · w [k, n].
#define DX(SHAPE, SIZE, ...)                                                                       \
    TENSOR_KERNEL(SHAPE) head_dx_bf16_##SIZE(const bf16* dlogits, const bf16* w, bf16* dx, u32 m, u32 n, u32 k) { \
        tensor_product<SHAPE>(DenseFactor(dlogits, row_of<bf16>(k)), DenseFactor(w, n), false, dx, m, n, k, 1.0f, \
            Addends<bf16>{0, 0}, LowRank{0, 0, 0, 0, 0, 0.0f});                                    \
    }

// dw [m, n] (+)= dlogitsᵀ · x, with dlogits [k, m] and x [k, n], tokens in blocks of 32.
#define DW(SHAPE, SIZE, ...)                                                                       \
    TENSOR_KERNEL(SHAPE) head_dw_bf16_##SIZE(                                                      \
        const bf16* dlogits, const bf16* x, float* dw, u32 m, u32 n, u32 k, u32 accumulate) {      \
        tensor_product_dw<SHAPE>(dlogits, row_of<bf16>(m), x, dw, m, n, k, accumulate, 1.0f);      \
    }

FOR_SHAPES(LOGITS, ) FOR_SHAPES(DX, ) FOR_SHAPES(DW, ) HEAD_SOFTMAX(bf16, bf16)
