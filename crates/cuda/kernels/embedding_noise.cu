// y = x + α/√(L·D) · u with u uniform in [−1, 1) and L the tokens of the sequence that a token belongs to: those of its line
// with the same start. One block for each token of a line of `line` tokens.
#include "philox.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void embedding_noise_##NAME(                                             \
        const T* x, const int* starts, const u32* rng, T* y, u64 stream, float alpha, u32 line, u32 width) { \
        u32 token = blockIdx.x, first = token / line * line, tokens = 0;                           \
        for (u32 other = 0; other < line; other++) tokens += starts[first + other] == starts[token]; \
        float magnitude = alpha / sqrtf((float)tokens * (float)width);                             \
        Philox philox = philox_of_op(rng, stream);                                                 \
        for (u32 column = threadIdx.x; column < width; column += blockDim.x) {                     \
            u64 i = (u64)token * width + column;                                                   \
            float uniform = (float)(philox.word(i) >> 8) * (1.0f / 16777216.0f);                   \
            store(y + i, load(x + i) + magnitude * (2.0f * uniform - 1.0f));                       \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
