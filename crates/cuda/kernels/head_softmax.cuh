// The head between its products: softmax of logits, losses, and the logits' cotangents in place of the logits.
//
// Cotangents are of type D, `vocab` of them from the beginning of each row of f32 logits on: as f32 each in its logit's place,
// as bf16 in the first half of the row, where tensor cores take them from.
#pragma once
#include "column_sums.cuh"
#include "curves.cuh"

#define INFINITY_F __int_as_float(0x7f800000)

// Elements of D in a row of f32.
template <class D>
__device__ __forceinline__ u64 row_of(u32 vocab) { return (u64)vocab * (sizeof(float) / sizeof(D)); }

// A warp for each token, four a block: the loss, if wanted; and the cotangents, if dloss is there. `bias` is added and the
// cap applied first; a token whose target is `ignored` has no loss and cotangents of zero.
template <class T, class D>
__device__ __forceinline__ void head_softmax(float* logits, const T* bias, const int* targets, const float* dloss,
    float* loss, float cap, int ignored, u32 vocab, u32 tokens) {
    u32 n = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (n >= tokens) return;
    float* row = logits + (u64)n * vocab;
    D* cotangents = (D*)row;
    int target = targets[n];
    if (target == ignored) {
        if (loss && lane == 0) loss[n] = 0.0f;
        if (dloss)
            for (u32 v = lane; v < vocab; v += 32) store(cotangents + v, 0.0f);
        return;
    }
    bool known = target >= 0 && target < (int)vocab;
    float most = -INFINITY_F, own = __int_as_float(0x7fc00000);
    for (u32 v = lane; v < vocab; v += 32) {
        float z = capped(row[v] + (bias ? load(bias + v) : 0.0f), cap);
        row[v] = z;
        most = fmaxf(most, z);
    }
    most = warp_max(most);
    float sum = 0.0f;
    for (u32 v = lane; v < vocab; v += 32) sum += expf(row[v] - most);
    float lse = most + logf(warp_sum(sum));
    __syncwarp();
    if (known) own = row[target];
    if (loss && lane == 0) loss[n] = lse - own;
    if (!dloss) return;
    __syncwarp();
    float slope = dloss[n];
    for (u32 first = 0; first < vocab; first += 32) {
        u32 v = first + lane;
        float z = v < vocab ? row[v] : 0.0f, p = expf(z - lse);
        // A cotangent's place is that of a logit which has been read by now.
        __syncwarp();
        if (v < vocab) store(cotangents + v, slope * (p - (target == (int)v ? 1.0f : 0.0f)) * cap_slope(z, cap));
    }
}

// db (+)= Σ over tokens of the cotangents. A thread for each column.
template <class D>
__device__ __forceinline__ void head_db(const float* logits, float* db, u32 accumulate, u32 vocab, u32 tokens) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= vocab) return;
    auto term = [=](u32 row) { return load((const D*)logits + row * row_of<D>(vocab) + column); };
    db[column] = column_sum(accumulate ? db[column] : 0.0f, tokens, term);
}

#define HEAD_SOFTMAX(T, NAME)                                                                      \
    extern "C" __global__ void head_softmax_##NAME(float* logits, const T* bias, const int* targets, \
        const float* dloss, float* loss, float cap, int ignored, u32 vocab, u32 tokens) {          \
        head_softmax<T, T>(logits, bias, targets, dloss, loss, cap, ignored, vocab, tokens);       \
    }                                                                                              \
    extern "C" __global__ void head_db_##NAME(const float* logits, float* db, u32 accumulate, u32 vocab, u32 tokens) { \
        head_db<T>(logits, db, accumulate, vocab, tokens);                                         \
    }
