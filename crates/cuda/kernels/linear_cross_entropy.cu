// The head in f32, a chunk of tokens at a time: logits in f32, their softmax and its gradient in place, and the products with it.
#include "head_softmax.cuh"
#include "product.cuh"

// logits [m, n] = h [m, k] · wᵀ + u [m, rank] · upᵀ, with w [n, k] and up [n, rank].
#define LOGITS(TILE, SUB, SIZE, T, NAME)                                                           \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void head_logits_##NAME##_##SIZE( \
        const T* h, const T* w, const T* u, const T* up, float* logits, u32 m, u32 n, u32 k, u32 rank) { \
        Epilogue<T, float> e = {0, 0, 1.0f, 0xffffffffu, u, up, {1, rank}, rank, 1.0f};            \
        product<TILE, SUB>(h, {k, 1}, Dense<T>{w}, {1, k}, logits, m, n, k, e);                    \
    }

// dx [m, n] = dlogits [m, k] · w [k, n].
#define DX(TILE, SUB, SIZE, T, NAME)                                                               \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void head_dx_##NAME##_##SIZE( \
        const float* dlogits, const T* w, T* dx, u32 m, u32 n, u32 k) {                            \
        Epilogue<float, T> e = {0, 0, 1.0f, 0xffffffffu, 0, 0, {0, 0}, 0, 0.0f};                   \
        product<TILE, SUB>(dlogits, {k, 1}, Dense<T>{w}, {n, 1}, dx, m, n, k, e);                  \
    }

// dw [m, n] (+)= dlogitsᵀ · x, with dlogits [k, m] and x [k, n], tokens in blocks.
#define DW(TILE, SUB, SIZE, T, NAME)                                                               \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void head_dw_##NAME##_##SIZE( \
        const float* dlogits, const T* x, float* dw, u32 m, u32 n, u32 k, u32 accumulate) {        \
        Epilogue<float, float> e = {accumulate ? dw : 0, 0, 1.0f, TOKEN_BLOCK, 0, 0, {0, 0}, 0, 0.0f}; \
        product<TILE, SUB>(dlogits, {1, m}, Dense<T>{x}, {n, 1}, dw, m, n, k, e);                  \
    }

#define KERNELS(T, NAME) FOR_TILES(LOGITS, T, NAME) FOR_TILES(DX, T, NAME) FOR_TILES(DW, T, NAME) HEAD_SOFTMAX(T, NAME)
KERNELS(float, f32)
