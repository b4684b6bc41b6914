// dtable[v] += Σ over the tokens with id v of dy, the tokens of a row in ascending order. A block for each token: where an
// earlier token has the same id it does nothing, else it adds that token's dy and those of all later ones with its id.
#include "prelude.cuh"

#define KERNEL(T, NAME)                                                                            \
    extern "C" __global__ void embedding_grad_##NAME(                                              \
        const T* dy, const int* ids, float* dtable, u32 rows, u32 width, u32 tokens) {             \
        int id = ids[blockIdx.x];                                                                  \
        if (id < 0 || id >= (int)rows) return;                                                     \
        for (u32 token = 0; token < blockIdx.x; token++)                                           \
            if (ids[token] == id) return;                                                          \
        for (u32 column = threadIdx.x; column < width; column += blockDim.x) {                     \
            float* to = dtable + (u64)id * width + column;                                         \
            float sum = *to;                                                                       \
            for (u32 token = blockIdx.x; token < tokens; token++)                                  \
                if (ids[token] == id) sum += load(dy + (u64)token * width + column);               \
            *to = sum;                                                                             \
        }                                                                                          \
    }
FOR_FLOATS(KERNEL)
