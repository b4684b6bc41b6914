// The power of a number in f64, as the host's `powi`: by squaring.
#pragma once
#include "prelude.cuh"

// base to the power of a positive number.
__device__ double power(double base, u32 exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2) result *= base;
        base *= base;
    }
    return result;
}
