// The Euclidean norm of each row of W + scale · B·A: norm[o] over i of w(i, o) + scale · Σ_r b[o, r]·a[r, i]. A warp for each
// row, four a block; W's element (i, o) is at i·w_rows + o·w_columns, not rounded where it is decoded.
#include "weight.cuh"

template <class T, class W>
__device__ void adapted_norm(const T* a, const T* b, W w, float* norm, const float* table, u64 w_rows, u64 w_columns,
    u32 inputs, u32 outputs, u32 rank, float scale) {
    u32 o = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (o >= outputs) return;
    float squares = 0.0f;
    for (u32 i = lane; i < inputs; i += 32) {
        float low_rank = 0.0f;
        for (u32 r = 0; r < rank; r++) low_rank += load(b + (u64)o * rank + r) * load(a + (u64)r * inputs + i);
        float x = w.element(i * w_rows + o * w_columns, table) + scale * low_rank;
        squares += x * x;
    }
    squares = warp_sum(squares);
    if (lane == 0) norm[o] = sqrtf(squares);
}

#define PARAMETERS(T)                                                                              \
    const T *a, const T *b, float *norm, u64 w_rows, u64 w_columns, u32 inputs, u32 outputs, u32 rank, float scale
#define RUN(T, W)                                                                                  \
    __shared__ float table[W::TABLE];                                                              \
    weight.prepare(table);                                                                         \
    __syncthreads();                                                                               \
    adapted_norm<T, W>(a, b, weight, norm, table, w_rows, w_columns, inputs, outputs, rank, scale);

typedef Nf4<float, false> Single;
typedef Nf4<float, true> Nested;

#define KERNELS(T, NAME)                                                                           \
    extern "C" __global__ void adapted_norm_##NAME(PARAMETERS(T), const T* w) {                    \
        Dense<T> weight = {w};                                                                     \
        RUN(T, Dense<T>)                                                                           \
    }                                                                                              \
    extern "C" __global__ void adapted_norm_##NAME##_nf4(PARAMETERS(T), const u8* w, u64 scales, u64 map) { \
        Single weight = {w, scales, 0, 0, 0, map};                                                 \
        RUN(T, Single)                                                                             \
    }                                                                                              \
    extern "C" __global__ void adapted_norm_##NAME##_nf4nested(PARAMETERS(T), const u8* w, u64 scales, \
        u64 nested_scales, u64 nested_map, u64 offset, u64 map) {                                  \
        Nested weight = {w, scales, nested_scales, nested_map, offset, map};                       \
        RUN(T, Nested)                                                                             \
    }                                                                                              \
    extern "C" __global__ void adapted_norm_##NAME##_int8(PARAMETERS(T), const u8* w, u64 scales, u32 width) { \
        Int8<float> weight = {w, scales, width};                                                   \
        RUN(T, Int8<float>)                                                                        \
    }
FOR_FLOATS(KERNELS)
