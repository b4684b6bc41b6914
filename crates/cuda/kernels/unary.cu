// y = f(x), and dx = dy · f′ from x or from y. Functions are numbered as in the recipe; p and q are their constants. One thread
// for each element.
#include "curves.cuh"

__device__ float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }

// Sines and cosines of angles that are first brought into two turns, without a table.
__device__ float half_turns(float x) {
    double turns = (double)x * 0.31830988618379067;
    return (float)(turns - 2.0 * rint(turns * 0.5));
}

__device__ float value(u32 function, float x, float p, float q) {
    switch (function) {
    case 0: return x <= 0.0f ? 0.0f : x;
    case 1: return x <= 0.0f ? p * x : x;
    case 2: return x <= 0.0f ? p * expm1f(x) : x;
    case 3: return sigmoid(x);
    case 4: return tanhf(x);
    case 5: return x * sigmoid(x);
    case 6: return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
    case 7: return expf(x);
    case 8: return logf(x);
    case 9: return sqrtf(x);
    case 10: return 1.0f / sqrtf(x);
    case 11: return 1.0f / x;
    case 12: return fabsf(x);
    case 13: return sign(x);
    case 14: return -x;
    case 15: return x * x;
    case 16: return powf(x, p);
    case 17: return sinpif(half_turns(x));
    case 18: return cospif(half_turns(x));
    case 19: return isnan(x) ? x : fminf(fmaxf(x, p), q);
    default: return x + p;
    }
}

__device__ float slope(u32 function, float at, float p, float q) {
    switch (function) {
    case 0: return at <= 0.0f ? 0.0f : 1.0f;
    case 1: return at <= 0.0f ? p : 1.0f;
    case 2: return at > 0.0f ? 1.0f : p >= 0.0f ? at + p : p * expf(at);
    case 3: return at * (1.0f - at);
    case 4: return 1.0f - at * at;
    case 5: return sigmoid(at) * (1.0f + at * (1.0f - sigmoid(at)));
    case 6: return sigmoid(at);
    case 7: return at;
    case 8: return 1.0f / at;
    case 9: return 0.5f / at;
    case 10: return -0.5f * at * at * at;
    case 11: return -at * at;
    case 12: return sign(at);
    case 13: return 0.0f;
    case 14: return -1.0f;
    case 15: return 2.0f * at;
    case 16: return p == 0.0f ? 0.0f : p * powf(at, p - 1.0f);
    case 17: return cospif(half_turns(at));
    case 18: return -sinpif(half_turns(at));
    case 19: return at <= p || at >= q ? 0.0f : 1.0f;
    default: return 1.0f;
    }
}

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void unary_##NAME(const T* x, T* y, u32 function, float p, float q, u64 n) { \
        u64 i = global_index();                                                                    \
        if (i < n) store(y + i, value(function, load(x + i), p, q));                               \
    }                                                                                              \
    extern "C" __global__ void unary_grad_##NAME(                                                  \
        const T* dy, const T* from, T* dx, u32 function, float p, float q, u64 n) {                \
        u64 i = global_index();                                                                    \
        if (i < n) store(dx + i, load(dy + i) * slope(function, load(from + i), p, q));            \
    }
FOR_FLOATS(KERNEL)
