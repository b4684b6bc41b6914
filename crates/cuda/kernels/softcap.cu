// y = cap · tanh(x / cap). One thread for each element.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void softcap_##NAME(const T* x, T* y, float cap, u64 n) {                 \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, capped(load(x + i), cap));                                         \
    }
FOR_FLOATS(KERNEL)
