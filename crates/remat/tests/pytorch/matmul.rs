//! Products of matrices.

use crate::case::check;

#[test]
fn products_match_pytorch() {
    check("matmul", |g, case, x| {
        let y = match case {
            "matmul_transposed" => g.matmul_transposed(x[0], x[1]),
            "matmul" | "matmul_spread" | "matmul_first" | "matmul_weight" | "matmul_long" => g.matmul(x[0], x[1]),
            "attention" => {
                let scores = g.matmul_transposed(x[0], x[1])?;
                let scores = g.mul_scalar(scores, 0.353_553_38)?;
                let scores = g.masked_fill(scores, x[3], f32::NEG_INFINITY)?;
                let weights = g.softmax(scores, -1)?;
                g.matmul(weights, x[2])
            }
            other => panic!("no such case: {other}"),
        };
        Ok(vec![y?])
    });
}
