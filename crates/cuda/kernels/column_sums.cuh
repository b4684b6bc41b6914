// Sums over rows, a column for each thread: rows in blocks of TOKEN_BLOCK, each summed by itself and then added, so that a sum
// that stops at the end of a block and is continued by another launch has the same bits.
#pragma once
#include "prelude.cuh"

// As `token_block` of the device's rules.
#define TOKEN_BLOCK 64

// `start` plus the terms of rows 0 to rows − 1.
template <class Term>
__device__ __forceinline__ float column_sum(float start, u32 rows, Term term) {
    float sum = start;
    for (u32 first = 0; first < rows; first += TOKEN_BLOCK) {
        float block = 0.0f;
        u32 end = min(first + TOKEN_BLOCK, rows);
        for (u32 row = first; row < end; row++) block += term(row);
        sum += block;
    }
    return sum;
}
