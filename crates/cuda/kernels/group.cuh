// The rows that one expert has.
#pragma once
#include "prelude.cuh"

// The rows of a group among `rows`: from the end of the group before to its own.
struct Group {
    u32 first, count;

    __device__ Group(const int* ends, u32 group, u32 rows) {
        u32 before = group ? (u32)max(ends[group - 1], 0) : 0, end = min((u32)max(ends[group], 0), rows);
        first = min(before, end);
        count = end - first;
    }
};
