// y = x in another type, rounded once. One thread for each element.
#include "prelude.cuh"

#define KERNEL(FROM, TO, NAME)                                                                     \
    extern "C" __global__ void cast_##NAME(const FROM* x, TO* y, u64 n) {                           \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, load(x + i));                                                      \
    }
KERNEL(float, float, f32_f32)
KERNEL(float, bf16, f32_bf16)
KERNEL(bf16, float, bf16_f32)
KERNEL(bf16, bf16, bf16_bf16)
