// Walks over the elements of a shape by strides: where in several tensors the element is whose index in the walk is known.
#pragma once
#include "prelude.cuh"

// As MOST_AXES of the graph's ops.
#define AXES 8

// Sizes of a shape, behind ones in front, and strides of N tensors along them: 0 where one element stands for all.
template <int N>
struct Walk {
    u64 sizes[AXES];
    u64 strides[N][AXES];

    // Where element i of the row-major walk is in each tensor.
    __device__ void offsets(u64 i, u64 (&at)[N]) const {
#pragma unroll
        for (int tensor = 0; tensor < N; tensor++) at[tensor] = 0;
#pragma unroll
        for (int axis = AXES - 1; axis >= 0; axis--) {
            // Most axes are ones in front.
            if (sizes[axis] == 1) continue;
            u64 own = i % sizes[axis];
            i /= sizes[axis];
#pragma unroll
            for (int tensor = 0; tensor < N; tensor++) at[tensor] += own * strides[tensor][axis];
        }
    }
};
