// y = gelu(gate) · up. One thread for each element.
#include "curves.cuh"

#define FORM(T, NAME, EXACT)                                                                       \
    extern "C" __global__ void geglu_##NAME(const T* gate, const T* up, T* y, u64 n) {              \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, gelu_value<EXACT>(load(gate + i)) * load(up + i));                 \
    }
#define KERNEL(T, NAME) FORM(T, tanh_##NAME, false) FORM(T, exact_##NAME, true)
FOR_FLOATS(KERNEL)
