// Activation functions and their slopes.
#pragma once
#include "prelude.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// GELU by the error function, or by the hyperbolic tangent (transformers' `gelu_new`).
template <bool EXACT>
__device__ __forceinline__ float gelu_value(float x) {
    if (EXACT) return 0.5f * x * erfcf(-0.70710678118654752f * x);
    return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

template <bool EXACT>
__device__ __forceinline__ float gelu_slope(float x) {
    if (EXACT) {
        float density = 0.3989422804014327f * expf(-0.5f * x * x);
        return 0.5f * erfcf(-0.70710678118654752f * x) + x * density;
    }
    float t = tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x));
    float inner = 0.7978845608028654f * (1.0f + 3.0f * 0.044715f * x * x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
}

// cap · tanh(x / cap), or x where cap is 0; and its slope at that result.
__device__ __forceinline__ float capped(float x, float cap) { return cap == 0.0f ? x : cap * tanhf(x / cap); }
__device__ __forceinline__ float cap_slope(float y, float cap) {
    if (cap == 0.0f) return 1.0f;
    float part = y / cap;
    return 1.0f - part * part;
}
