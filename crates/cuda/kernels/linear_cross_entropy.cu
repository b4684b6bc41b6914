// The head, a chunk of tokens at a time: logits in f32, their softmax and its gradient in place, and the products with it.
#include "column_sums.cuh"
#include "curves.cuh"
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

// A warp for each token, four a block: the loss, if wanted; and in place of the logits their cotangents, if dloss is there.
// `bias` is added and the cap applied first; a token whose target is `ignored` has no loss and no cotangents.
#define SOFTMAX(T, NAME)                                                                           \
    extern "C" __global__ void head_softmax_##NAME(float* logits, const T* bias, const int* targets, \
        const float* dloss, float* loss, float cap, int ignored, u32 vocab, u32 tokens) {          \
        u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;                        \
        if (n >= tokens) return;                                                                   \
        float* row = logits + (u64)n * vocab;                                                      \
        int target = targets[n];                                                                   \
        if (target == ignored) {                                                                   \
            if (loss && lane == 0) loss[n] = 0.0f;                                                 \
            if (dloss)                                                                             \
                for (u32 v = lane; v < vocab; v += 32) row[v] = 0.0f;                              \
            return;                                                                                \
        }                                                                                          \
        bool known = target >= 0 && target < (int)vocab;                                           \
        float most = -INFINITY_F, own = __int_as_float(0x7fc00000);                                \
        for (u32 v = lane; v < vocab; v += 32) {                                                   \
            float z = capped(row[v] + (bias ? load(bias + v) : 0.0f), cap);                        \
            row[v] = z;                                                                            \
            most = fmaxf(most, z);                                                                 \
        }                                                                                          \
        most = warp_max(most);                                                                     \
        float sum = 0.0f;                                                                          \
        for (u32 v = lane; v < vocab; v += 32) sum += expf(row[v] - most);                         \
        float lse = most + logf(warp_sum(sum));                                                    \
        __syncwarp();                                                                              \
        if (known) own = row[target];                                                              \
        if (loss && lane == 0) loss[n] = lse - own;                                                \
        if (!dloss) return;                                                                        \
        __syncwarp();                                                                              \
        float slope = dloss[n];                                                                    \
        for (u32 v = lane; v < vocab; v += 32) {                                                   \
            float z = row[v], p = expf(z - lse);                                                   \
            row[v] = slope * (p - (target == (int)v ? 1.0f : 0.0f)) * cap_slope(z, cap);           \
        }                                                                                          \
    }
#define INFINITY_F __int_as_float(0x7f800000)

#define KERNELS(T, NAME)                                                                           \
    FOR_TILES(LOGITS, T, NAME) FOR_TILES(DX, T, NAME) FOR_TILES(DW, T, NAME) SOFTMAX(T, NAME)
FOR_FLOATS(KERNELS)

// db (+)= Σ over tokens of dlogits. A thread for each column.
extern "C" __global__ void head_db(const float* dlogits, float* db, u32 accumulate, u32 vocab, u32 tokens) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= vocab) return;
    auto term = [=](u32 row) { return dlogits[(u64)row * vocab + column]; };
    db[column] = column_sum(accumulate ? db[column] : 0.0f, tokens, term);
}
