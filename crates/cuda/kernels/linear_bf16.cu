// y = residual + alpha · x·W + bias + beta · u·B in bf16 on tensor cores: see tensor_product.cuh. x is [m, k]; W's element (i, o)
// is at i·w_rows + o·w_columns, of which one is 1.
#include "weights_of.cuh"

#define PARAMETERS                                                                                 \
    const bf16 *x, bf16 *y, const bf16 *residual, const bf16 *bias, const bf16 *u, const bf16 *v, u64 w_rows,  \
        u64 w_columns, u64 v_rows, u64 v_columns, u32 m, u32 n, u32 k, u32 rank, float alpha, float beta

#define RUN(SHAPE, WEIGHT)                                                                         \
    bool along = w_rows == 1;                                                                      \
    tensor_product<SHAPE>(DenseFactor(x, k), WEIGHT(along ? w_columns : w_rows), along, y, m, n, k, alpha, \
        Addends<bf16>{residual, bias}, LowRank{u, v, v_rows, v_columns, rank, beta});

FOR_SHAPES(FOR_WEIGHTS, linear)
