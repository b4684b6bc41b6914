// Elements reduced along axes: `outer` walks over the results, in x; `inner` over the terms of one. A thread for each result; sums
// are made in f64, in the order of the walk.
#include "walk.cuh"

#define SUM 0
#define MEAN 1
#define MAX 2

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void reduce_##NAME(                                                      \
        const T* x, T* y, u32 reduction, Walk<1> outer, Walk<1> inner, u64 terms, u64 n) {         \
        u64 i = global_index(), start[1], at[1];                                                   \
        if (i >= n) return;                                                                        \
        outer.offsets(i, start);                                                                   \
        double sum = 0.0;                                                                          \
        float extreme = __int_as_float(reduction == MAX ? 0xff800000 : 0x7f800000);                \
        for (u64 term = 0; term < terms; term++) {                                                 \
            inner.offsets(term, at);                                                               \
            float value = load(x + start[0] + at[0]);                                              \
            if (reduction <= MEAN) sum += (double)value;                                           \
            else if (isnan(value) || isnan(extreme)) extreme = __int_as_float(0x7fc00000);         \
            else extreme = reduction == MAX ? fmaxf(extreme, value) : fminf(extreme, value);       \
        }                                                                                          \
        if (reduction == MEAN) sum /= (double)terms;                                               \
        store(y + i, reduction <= MEAN ? (float)sum : extreme);                                    \
    }                                                                                              \
    extern "C" __global__ void reduce_grad_##NAME(                                                 \
        const T* dy, const T* x, const T* y, T* dx, Walk<1> outer, Walk<1> inner, u64 terms, u64 n) { \
        u64 i = global_index(), start[1], at[1];                                                   \
        if (i >= n) return;                                                                        \
        outer.offsets(i, start);                                                                   \
        float extreme = load(y + i), equal = 0.0f;                                                 \
        for (u64 term = 0; term < terms; term++) {                                                 \
            inner.offsets(term, at);                                                               \
            equal += load(x + start[0] + at[0]) == extreme ? 1.0f : 0.0f;                          \
        }                                                                                          \
        float share = load(dy + i) / equal;                                                        \
        for (u64 term = 0; term < terms; term++) {                                                 \
            inner.offsets(term, at);                                                               \
            u64 own = start[0] + at[0];                                                            \
            store(dx + own, load(x + own) == extreme ? share : 0.0f);                              \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
