//! Sums, means, extremes and softmax along axes.

use crate::case::check;

#[test]
fn reductions_and_softmax_match_pytorch() {
    check("reduce", |g, case, x| {
        let x = x[0];
        let y = match case {
            "sum_dim_last" => g.sum_dim(x, &[-1], false),
            "sum_dim_first_kept" => g.sum_dim(x, &[0], true),
            "sum_dim_two" => g.sum_dim(x, &[0, 2], false),
            "sum_dim_all" => g.sum_dim(x, &[], false),
            "mean_dim_last" => g.mean_dim(x, &[-1], false),
            "mean_dim_first_kept" => g.mean_dim(x, &[0], true),
            "mean_dim_two" => g.mean_dim(x, &[2, 0], false),
            "mean_dim_all" => g.mean_dim(x, &[], false),
            "amax_last" => g.amax(x, &[-1], false),
            "amax_middle_kept" => g.amax(x, &[1], true),
            "amax_two" => g.amax(x, &[0, 2], false),
            "amax_all" => g.amax(x, &[], false),
            "amin_last" => g.amin(x, &[-1], false),
            "amin_middle_kept" => g.amin(x, &[1], true),
            "amin_two" => g.amin(x, &[0, -1], false),
            "amin_all" => g.amin(x, &[0, 1, 2], false),
            "var_last" => g.var(x, &[-1], 1, false),
            "var_two_kept" => g.var(x, &[0, 1], 0, true),
            "softmax" | "softmax_far" => g.softmax(x, -1),
            "softmax_middle" => g.softmax(x, 1),
            "log_softmax" => g.log_softmax(x, 2),
            "log_softmax_first" => g.log_softmax(x, 0),
            other => panic!("no such case: {other}"),
        };
        Ok(vec![y?])
    });
}
