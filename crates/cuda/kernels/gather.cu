// Slices and single elements of x along an axis by their numbers, and the gradients: each element of dx adds up those of dy that
// were taken from it, in the order of ids. A tensor is [outer, size, inner]. A number that is none gives ones, which are NaN.
// One thread for each element.
#include "prelude.cuh"

#define MOVES(T, NAME)                                                                             \
    extern "C" __global__ void gather_##NAME(                                                      \
        const T* x, const int* ids, T* y, u64 size, u64 inner, u64 count, u64 n) {                 \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 block = i / inner / count;                                                             \
        int id = ids[i / inner % count];                                                           \
        bool known = id >= 0 && (u64)id < size;                                                    \
        y[i] = known ? x[(block * size + id) * inner + i % inner] : (T)~(T)0;                      \
    }                                                                                              \
    extern "C" __global__ void take_along_axis_##NAME(                                             \
        const T* x, const int* ids, T* y, u64 size, u64 inner, u64 count, u64 n) {                 \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        int id = ids[i];                                                                           \
        bool known = id >= 0 && (u64)id < size;                                                    \
        y[i] = known ? x[(i / (count * inner) * size + id) * inner + i % inner] : (T)~(T)0;        \
    }
MOVES(u16, 2)
MOVES(u32, 4)

#define SUMS(T, NAME)                                                                              \
    extern "C" __global__ void gather_grad_##NAME(                                                 \
        const T* dy, const int* ids, T* dx, u64 size, u64 inner, u64 count, u64 n) {               \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 block = i / inner / size, own = i / inner % size;                                      \
        float sum = 0.0f;                                                                          \
        for (u64 number = 0; number < count; number++)                                             \
            if (ids[number] == (int)own) sum += load(dy + (block * count + number) * inner + i % inner); \
        store(dx + i, sum);                                                                        \
    }                                                                                              \
    extern "C" __global__ void take_along_axis_grad_##NAME(                                        \
        const T* dy, const int* ids, T* dx, u64 size, u64 inner, u64 count, u64 n) {               \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 block = i / inner / size, own = i / inner % size;                                      \
        float sum = 0.0f;                                                                          \
        for (u64 number = 0; number < count; number++) {                                           \
            u64 at = (block * count + number) * inner + i % inner;                                 \
            if (ids[at] == (int)own) sum += load(dy + at);                                         \
        }                                                                                          \
        store(dx + i, sum);                                                                        \
    }
FOR_FLOATS(SUMS)
