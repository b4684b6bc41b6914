// Masks: whether a stands in a relation to b; y = a where a mask is set, else b; y = a value where a mask is as said, else x. All
// broadcast. One thread for each element of y.
#include "walk.cuh"

__device__ __forceinline__ int load(const int* at) { return *at; }

template <class T>
__device__ bool holds(u32 relation, T a, T b) {
    switch (relation) {
    case 0: return a == b;
    case 1: return a != b;
    case 2: return a < b;
    case 3: return a <= b;
    case 4: return a > b;
    default: return a >= b;
    }
}

#define COMPARE(T, NAME)                                                                           \
    extern "C" __global__ void compare_##NAME(const T* a, const T* b, int* y, u32 relation, Walk<2> walk, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[2];                                                                                 \
        walk.offsets(i, at);                                                                       \
        y[i] = holds(relation, load(a + at[0]), load(b + at[1]));                                  \
    }
COMPARE(int, i32)
FOR_FLOATS(COMPARE)

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void select_##NAME(const int* mask, const T* a, const T* b, T* y, Walk<3> walk, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[3];                                                                                 \
        walk.offsets(i, at);                                                                       \
        y[i] = mask[at[0]] ? a[at[1]] : b[at[2]];                                                  \
    }                                                                                              \
    extern "C" __global__ void masked_fill_##NAME(                                                 \
        const T* x, const int* mask, T* y, float value, u32 filled, Walk<1> walk, u64 n) {         \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u64 at[1];                                                                                 \
        walk.offsets(i, at);                                                                       \
        if ((mask[at[0]] != 0) == (filled != 0)) store(y + i, value);                              \
        else y[i] = x[i];                                                                          \
    }
FOR_FLOATS(KERNEL)
