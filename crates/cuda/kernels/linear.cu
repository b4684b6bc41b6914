// y = residual + alpha · x·W + bias + beta · u·B in f32: see product.cuh. x is [m, k]; W's element (i, o) is at i·w_rows + o·w_columns.
#include "product.cuh"

#define EPILOGUE(T)                                                                                \
    Epilogue<T, T> e = {residual, bias, alpha, 0xffffffffu, u, v, {v_rows, v_columns}, rank, beta}

#define PARAMETERS(T)                                                                              \
    const T *x, T *y, const T *residual, const T *bias, const T *u, const T *v, u64 w_rows, u64 w_columns, \
        u64 v_rows, u64 v_columns, u32 m, u32 n, u32 k, u32 rank, float alpha, float beta

#define DENSE(TILE, SUB, SIZE, T, NAME)                                                            \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void linear_##NAME##_##SIZE(  \
        PARAMETERS(T), const T* w) {                                                               \
        EPILOGUE(T);                                                                               \
        product<TILE, SUB>(x, {k, 1}, Dense<T>{w}, {w_rows, w_columns}, y, m, n, k, e);            \
    }
#define QUANTISED(TILE, SUB, SIZE, T, NAME)                                                        \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void linear_##NAME##_nf4_##SIZE( \
        PARAMETERS(T), const u8* w, u64 scales, u64 map) {                                         \
        EPILOGUE(T);                                                                               \
        Nf4<T, false> weight = {w, scales, 0, 0, 0, map};                                          \
        product<TILE, SUB>(x, {k, 1}, weight, {w_rows, w_columns}, y, m, n, k, e);                 \
    }                                                                                              \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void linear_##NAME##_nf4nested_##SIZE( \
        PARAMETERS(T), const u8* w, u64 scales, u64 nested_scales, u64 nested_map, u64 offset, u64 map) { \
        EPILOGUE(T);                                                                               \
        Nf4<T, true> weight = {w, scales, nested_scales, nested_map, offset, map};                 \
        product<TILE, SUB>(x, {k, 1}, weight, {w_rows, w_columns}, y, m, n, k, e);                 \
    }                                                                                              \
    extern "C" __global__ __launch_bounds__(TILE / SUB * TILE / SUB, 2) void linear_##NAME##_int8_##SIZE( \
        PARAMETERS(T), const u8* w, u64 scales, u32 width) {                                       \
        EPILOGUE(T);                                                                               \
        Int8<T> weight = {w, scales, width};                                                       \
        product<TILE, SUB>(x, {k, 1}, weight, {w_rows, w_columns}, y, m, n, k, e);                 \
    }
#define KERNELS(T, NAME) FOR_TILES(DENSE, T, NAME) FOR_TILES(QUANTISED, T, NAME)
KERNELS(float, f32)
