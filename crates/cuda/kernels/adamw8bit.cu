// One step of AdamW whose moments are codes of the dynamic maps with a scale for each 256 elements: a block of threads for each.
// Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2022. Nothing is fused, so that the codes are the CPU's.
#include "power.cuh"

// The numbers of a map, ascending.
struct Map {
    float numbers[256];
};

// The code nearest to x, the lower of two; a negative x that is nearest to 0 gets the code below 0.
__device__ u8 code_of(const float* numbers, float x) {
    u32 low = 0, high = 255;
    while (low < high) {
        u32 middle = (low + high) / 2;
        float boundary = __fmul_rn(__fadd_rn(numbers[middle], numbers[middle + 1]), 0.5f);
        if (boundary < x) low = middle + 1;
        else high = middle;
    }
    return (u8)(x < 0.0f && numbers[low] >= 0.0f ? low - 1 : low);
}

// The largest magnitude over the block, NaN if one is; the same in all threads.
__device__ float largest(float x, float* shared) {
    float magnitude = fabsf(x);
    __syncthreads();
    shared[threadIdx.x] = magnitude;
    __syncthreads();
    for (u32 half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            float a = shared[threadIdx.x], b = shared[threadIdx.x + half];
            shared[threadIdx.x] = isnan(a) || isnan(b) ? __int_as_float(0x7fc00000) : fmaxf(a, b);
        }
        __syncthreads();
    }
    return shared[0];
}

extern "C" __global__ __launch_bounds__(256) void adamw8bit_f32(float* p, float* g, u8* m_codes, u8* v_codes,
    float* m_absmax, float* v_absmax, const float* lr, const int* step, const float* grad_scale, double beta1, double beta2,
    float eps, double weight_decay, u64 n, Map signed_map, Map unsigned_map) {
    __shared__ float m_map[256], v_map[256], shared[256], decay, step_size, inverse_root_correction;
    u32 thread = threadIdx.x;
    m_map[thread] = signed_map.numbers[thread];
    v_map[thread] = unsigned_map.numbers[thread];
    if (thread == 0) {
        double rate = (double)lr[0];
        decay = (float)(1.0 - rate * weight_decay);
        step_size = (float)(rate / (1.0 - power(beta1, (u32)step[0])));
        inverse_root_correction = (float)(1.0 / sqrt(1.0 - power(beta2, (u32)step[0])));
    }
    __syncthreads();
    u64 i = (u64)blockIdx.x * 256 + thread;
    bool inside = i < n;
    float m = 0.0f, v = 0.0f;
    float old_m_absmax = m_absmax[blockIdx.x], old_v_absmax = v_absmax[blockIdx.x];
    if (inside) {
        float gradient = __fmul_rn(g[i], grad_scale[0]);
        float old_m = __fmul_rn(m_map[m_codes[i]], old_m_absmax), old_v = __fmul_rn(v_map[v_codes[i]], old_v_absmax);
        m = __fadd_rn(__fmul_rn(old_m, (float)beta1), __fmul_rn(gradient, (float)(1.0 - beta1)));
        v = __fadd_rn(__fmul_rn(old_v, (float)beta2), __fmul_rn(__fmul_rn(gradient, gradient), (float)(1.0 - beta2)));
        float root = __fadd_rn(__fmul_rn(__fsqrt_rn(v), inverse_root_correction), eps);
        p[i] = __fsub_rn(__fmul_rn(p[i], decay), __fdiv_rn(__fmul_rn(step_size, m), root));
        g[i] = 0.0f;
    }
    float m_largest = largest(m, shared), v_largest = largest(v, shared);
    if (inside) {
        m_codes[i] = code_of(m_map, m_largest == 0.0f ? 0.0f : __fdiv_rn(m, m_largest));
        v_codes[i] = code_of(v_map, v_largest == 0.0f ? 0.0f : __fdiv_rn(v, v_largest));
    }
    if (thread == 0) {
        m_absmax[blockIdx.x] = m_largest;
        v_absmax[blockIdx.x] = v_largest;
    }
}
