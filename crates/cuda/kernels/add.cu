// y = a + b. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void add_##NAME(const T* a, const T* b, T* y, u64 n) {                    \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, load(a + i) + load(b + i));                                        \
    }
FOR_FLOATS(KERNEL)
