// Within the first 2·half elements of a head, elements i and i + half turn by position · inv_freq[i], the angle in f32 as the
// reference implementation has it; the others stay. One thread for each element of the first half of what turns, or that stays.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void rope_##NAME(const T* x, const int* positions, const float* inv_freq, T* y, \
        float scale, u32 inverse, u32 half, u32 head_size, u32 heads, u64 n) {                     \
        u64 i = global_index();                                                                    \
        if (i >= n) return;                                                                        \
        u32 steps = head_size - half, at = (u32)(i % steps);                                       \
        u64 head = i / steps;                                                                      \
        const T* from = x + head * head_size;                                                      \
        T* to = y + head * head_size;                                                              \
        if (at >= half) {                                                                          \
            to[at + half] = from[at + half];                                                       \
            return;                                                                                \
        }                                                                                          \
        /* In half turns, less whole ones: without the table that sincosf needs for large angles. */ \
        double half_turns = (double)((float)positions[head / heads] * inv_freq[at]) * 0.31830988618379067; \
        float sine, cosine;                                                                        \
        sincospif((float)(half_turns - 2.0 * rint(half_turns * 0.5)), &sine, &cosine);             \
        cosine *= scale;                                                                           \
        sine *= inverse ? -scale : scale;                                                          \
        float a = load(from + at), b = load(from + at + half);                                     \
        store(to + at, a * cosine - b * sine);                                                     \
        store(to + at + half, b * cosine + a * sine);                                              \
    }
FOR_FLOATS(KERNEL)
