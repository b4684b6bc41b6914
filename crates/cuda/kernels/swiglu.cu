// y = gate · sigmoid(gate) · up. One thread for each element.
#include "curves.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void swiglu_##NAME(const T* gate, const T* up, T* y, u64 n) {             \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        float g = load(gate + i);                                                                  \
        store(y + i, g * sigmoid(g) * load(up + i));                                               \
    }
FOR_FLOATS(KERNEL)
