// state += x. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void accumulate_##NAME(float* state, const T* x, u64 n) {                 \
        u64 i = global_index();                                                                    \
        if (i < n) state[i] += load(x + i);                                                        \
    }
FOR_FLOATS(KERNEL)
