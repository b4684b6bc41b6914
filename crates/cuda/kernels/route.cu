// Which experts each token goes to, and the choices sorted by expert. Three launches: a thread for each token chooses; a thread for
// each expert counts the choices up to it; a thread for each expert then places its own, in their order.
#include "prelude.cuh"

// Whether a score is above another: NaN is above all numbers.
__device__ bool above(float a, float b) { return a > b || (isnan(a) && !isnan(b)); }

// The `each` highest scores, highest first, of equal ones the lowest expert first.
extern "C" __global__ void route_choose(const float* scores, int* chosen, u32 experts, u32 each, u32 tokens) {
    u32 n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= tokens) return;
    const float* row = scores + (u64)n * experts;
    for (u32 at = 0; at < each; at++) {
        int best = -1;
        for (u32 expert = 0; expert < experts; expert++) {
            bool taken = false;
            for (u32 before = 0; before < at; before++) taken |= chosen[(u64)n * each + before] == (int)expert;
            if (!taken && (best < 0 || above(row[expert], row[best]))) best = (int)expert;
        }
        chosen[(u64)n * each + at] = best;
    }
}

// ends[e]: choices of experts up to e.
extern "C" __global__ void route_count(const int* chosen, int* ends, u32 experts, u32 rows) {
    u32 expert = blockIdx.x * blockDim.x + threadIdx.x;
    if (expert >= experts) return;
    int count = 0;
    for (u32 choice = 0; choice < rows; choice++) count += chosen[choice] <= (int)expert;
    ends[expert] = count;
}

// The choices of each expert, in their own order, and their tokens.
extern "C" __global__ void route_place(
    const int* chosen, const int* ends, int* order, int* tokens, u32 experts, u32 each, u32 rows) {
    u32 expert = blockIdx.x * blockDim.x + threadIdx.x;
    if (expert >= experts) return;
    u32 place = expert ? (u32)ends[expert - 1] : 0;
    for (u32 choice = 0; choice < rows; choice++) {
        if (chosen[choice] != (int)expert) continue;
        order[place] = (int)choice;
        tokens[place] = (int)(choice / each);
        place++;
    }
}
