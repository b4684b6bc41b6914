// y[n] = table[ids[n]]; NaN where an id has no row, which the host has refused before. One thread for each element.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void embedding_##NAME(                                                   \
        const T* table, const int* ids, T* y, u32 rows, u32 width, u64 n) {                        \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        int id = ids[i / width];                                                                   \
        bool known = id >= 0 && id < (int)rows;                                                    \
        store(y + i, known ? load(table + (u64)id * width + i % width) : __int_as_float(0x7fc00000)); \
    }
FOR_FLOATS(KERNEL)
