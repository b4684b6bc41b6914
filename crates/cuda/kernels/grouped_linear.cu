// The linear of one expert: y = alpha · x·W for the rows of a group, which lie from the end of the group before to its own. Blocks
// beyond them do nothing. See product.cuh. In f32.
#include "group.cuh"
#include "product.cuh"

#define PARAMETERS(T)                                                                              \
    const int *ends, const T *x, T *y, u32 group, u64 w_rows, u64 w_columns, u32 m, u32 n, u32 k, float alpha

#define RUN(TILE, SUB, T, ...)                                                                     \
    Group of(ends, group, m);                                                                      \
    if (blockIdx.x * TILE >= of.count) return;                                                     \
    Epilogue<T, T> e = {0, 0, alpha, 0xffffffffu, 0, 0, {0, 0}, 0, 0.0f};                          \
    product<TILE, SUB>(x + (u64)of.first * k, {k, 1}, __VA_ARGS__, {w_rows, w_columns},            \
        y + (u64)of.first * n, of.count, n, k, e);

#define HEAD(TILE, SUB) extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void

#define KERNEL(TILE, SUB, SIZE, T, NAME)                                                           \
    HEAD(TILE, SUB) grouped_linear_##NAME##_##SIZE(PARAMETERS(T), const T* w) {                    \
        RUN(TILE, SUB, T, Dense<T>{w})                                                             \
    }                                                                                              \
    HEAD(TILE, SUB) grouped_linear_##NAME##_nf4_##SIZE(PARAMETERS(T), const u8* w, u64 scales, u64 map) { \
        Nf4<T, false> weight = {w, scales, 0, 0, 0, map};                                          \
        RUN(TILE, SUB, T, weight)                                                                  \
    }                                                                                              \
    HEAD(TILE, SUB) grouped_linear_##NAME##_nf4nested_##SIZE(PARAMETERS(T), const u8* w, u64 scales, \
        u64 nested_scales, u64 nested_map, u64 offset, u64 map) {                                  \
        Nf4<T, true> weight = {w, scales, nested_scales, nested_map, offset, map};                 \
        RUN(TILE, SUB, T, weight)                                                                  \
    }                                                                                              \
    HEAD(TILE, SUB) grouped_linear_##NAME##_int8_##SIZE(PARAMETERS(T), const u8* w, u64 scales, u32 width) { \
        Int8<T> weight = {w, scales, width};                                                       \
        RUN(TILE, SUB, T, weight)                                                                  \
    }
#define KERNELS(T, NAME) FOR_TILES(KERNEL, T, NAME)
KERNELS(float, f32)
