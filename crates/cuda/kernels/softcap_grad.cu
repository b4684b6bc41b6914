// dx = dy · (1 − (y / cap)²). One thread for each element.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void softcap_grad_##NAME(const T* dy, const T* y, T* dx, float cap, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i < n) store(dx + i, load(dy + i) * cap_slope(load(y + i), cap));                      \
    }
FOR_FLOATS(KERNEL)
