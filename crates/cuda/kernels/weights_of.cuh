// A kernel for each format that a weight has: what is common to the ops that multiply by weights on tensor cores.
#pragma once
#include "tensor_product.cuh"

// The weight, with so many elements from line to line.
#define DENSE(STRIDE) DenseFactor(w, STRIDE)
#define NF4(STRIDE) Nf4Factor<false>{{w, scales, 0, 0, 0, map}, STRIDE}
#define NF4NESTED(STRIDE) Nf4Factor<true>{{w, scales, nested_scales, nested_map, offset, map}, STRIDE}
#define INT8(STRIDE) Int8Factor{{w, scales, width}, STRIDE}

// NAME_bf16_FORMAT_SIZE of PARAMETERS and the weight's own: RUN(shape, weight).
#define FOR_WEIGHTS(SHAPE, SIZE, NAME)                                                             \
    TENSOR_KERNEL(SHAPE) NAME##_bf16_##SIZE(PARAMETERS, const bf16* w) { RUN(SHAPE, DENSE) }       \
    TENSOR_KERNEL(SHAPE) NAME##_bf16_nf4_##SIZE(PARAMETERS, const u8* w, u64 scales, u64 map) { RUN(SHAPE, NF4) } \
    TENSOR_KERNEL(SHAPE) NAME##_bf16_nf4nested_##SIZE(                                             \
        PARAMETERS, const u8* w, u64 scales, u64 nested_scales, u64 nested_map, u64 offset, u64 map) { \
        RUN(SHAPE, NF4NESTED)                                                                      \
    }                                                                                              \
    TENSOR_KERNEL(SHAPE) NAME##_bf16_int8_##SIZE(PARAMETERS, const u8* w, u64 scales, u32 width) { RUN(SHAPE, INT8) }
