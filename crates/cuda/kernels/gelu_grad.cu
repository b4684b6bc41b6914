// dx = dy · gelu′(x). One thread for each element.
#include "curves.cuh"

#define FORM(T, NAME, EXACT)                                                                       \
    extern "C" __global__ void gelu_grad_##NAME(const T* dy, const T* x, T* dx, u64 n) {            \
        u64 i = global_index();                                                                    \
        if (i < n) store(dx + i, load(dy + i) * gelu_slope<EXACT>(load(x + i)));                   \
    }
#define KERNEL(T, NAME) FORM(T, tanh_##NAME, false) FORM(T, exact_##NAME, true)
FOR_FLOATS(KERNEL)
