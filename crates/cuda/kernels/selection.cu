// Sets to 1 the element of one column j whose row is the chosen one, in a matrix of zeros.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void selection_##NAME(T* y, u64 element) { store(y + element, 1.0f); }
FOR_FLOATS(KERNEL)
