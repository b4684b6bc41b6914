// y = gelu(x), by the error function or by the hyperbolic tangent. One thread for each element.
#include "curves.cuh"

#define FORM(T, NAME, EXACT)                                                                       \
    extern "C" __global__ void gelu_##NAME(const T* x, T* y, u64 n) {                               \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, gelu_value<EXACT>(load(x + i)));                                   \
    }
#define KERNEL(T, NAME) FORM(T, tanh_##NAME, false) FORM(T, exact_##NAME, true)
FOR_FLOATS(KERNEL)
