// dgate = dy · up · gelu′(gate), dup = dy · gelu(gate). One thread for each element.
#include "curves.cuh"

#define FORM(T, NAME, EXACT)                                                                       \
    extern "C" __global__ void geglu_grad_##NAME(                                                  \
        const T* dy, const T* gate, const T* up, T* dgate, T* dup, u64 n) {                        \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        float d = load(dy + i), g = load(gate + i), u = load(up + i);                              \
        store(dgate + i, d * u * gelu_slope<EXACT>(g));                                            \
        store(dup + i, d * gelu_value<EXACT>(g));                                                  \
    }
#define KERNEL(T, NAME) FORM(T, tanh_##NAME, false) FORM(T, exact_##NAME, true)
FOR_FLOATS(KERNEL)
