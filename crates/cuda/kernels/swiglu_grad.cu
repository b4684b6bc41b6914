// dgate = dy · up · s (1 + g (1 − s)), dup = dy · g · s with s = sigmoid(g). One thread for each element.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void swiglu_grad_##NAME(                                                 \
        const T* dy, const T* gate, const T* up, T* dgate, T* dup, u64 n) {                        \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        float d = load(dy + i), g = load(gate + i), u = load(up + i), s = sigmoid(g);              \
        store(dgate + i, d * u * (s * (1.0f + g * (1.0f - s))));                                   \
        store(dup + i, d * (g * s));                                                               \
    }
FOR_FLOATS(KERNEL)
