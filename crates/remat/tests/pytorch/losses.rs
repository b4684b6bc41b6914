//! Losses from logits and from pairs. A loss is f32 whatever its operands are; of bf16 ones it is compared in bf16.

use crate::case::check;
use remat::{CrossEntropyOptions, Error, Graph, Reduction, Tensor};

fn reduction(case: &str) -> Reduction {
    match case.rsplit('_').next() {
        Some("none") => Reduction::None,
        Some("mean") => Reduction::Mean,
        _ => Reduction::Sum,
    }
}

fn loss(g: &mut Graph, case: &str, x: &[Tensor]) -> Result<Tensor, Error> {
    let reduction = reduction(case);
    let plain = CrossEntropyOptions { reduction, ..CrossEntropyOptions::default() };
    match case.trim_end_matches("_none").trim_end_matches("_sum").trim_end_matches("_mean") {
        "cross_entropy" => g.cross_entropy_of_logits(x[0], x[1], plain),
        "cross_entropy_all" => {
            let options = CrossEntropyOptions { weight: Some(x[2]), ignore_index: -1, label_smoothing: 0.1, reduction };
            g.cross_entropy_of_logits(x[0], x[1], options)
        }
        "mse_loss" => g.mse_loss(x[0], x[1], reduction),
        "l1_loss" => g.l1_loss(x[0], x[1], reduction),
        "huber_loss" => g.huber_loss(x[0], x[1], 0.75, reduction),
        "smooth_l1_loss" => g.smooth_l1_loss(x[0], x[1], 0.5, reduction),
        "bce" => g.binary_cross_entropy_with_logits(x[0], x[1], None, reduction),
        "bce_weighted" => g.binary_cross_entropy_with_logits(x[0], x[1], Some(x[2]), reduction),
        other => panic!("no such case: {other}"),
    }
}

#[test]
fn losses_match_pytorch() {
    check("losses", |g, case, x| {
        let dtype = g.ty(x[0])?.dtype;
        let loss = loss(g, case, x)?;
        Ok(vec![if g.ty(loss)?.dtype == dtype { loss } else { g.cast(loss, dtype)? }])
    });
}
