// The linear of one expert in bf16 on tensor cores: y = alpha · x·W for the rows of a group; blocks beyond them do nothing.
#include "group.cuh"
#include "weights_of.cuh"

#define PARAMETERS                                                                                 \
    const int *ends, const bf16 *x, bf16 *y, u32 group, u64 w_rows, u64 w_columns, u32 m, u32 n, u32 k, float alpha

#define RUN(SHAPE, WEIGHT)                                                                         \
    Group of(ends, group, m);                                                                      \
    if (blockIdx.x * SHAPE::M >= of.count) return;                                                 \
    bool along = w_rows == 1;                                                                      \
    tensor_product<SHAPE>(DenseFactor(x + (u64)of.first * k, k), WEIGHT(along ? w_columns : w_rows), along, \
        y + (u64)of.first * n, of.count, n, k, alpha, Addends<bf16>{0, 0}, LowRank{0, 0, 0, 0, 0, 0.0f});

FOR_SHAPES(FOR_WEIGHTS, grouped_linear)
