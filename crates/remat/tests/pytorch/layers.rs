//! Layers that transformers are made of.

use crate::case::check;

#[test]
fn layers_match_pytorch() {
    check("layers", |g, case, x| match case {
        "linear" => Ok(vec![g.linear(x[0], x[1], None)?]),
        "gelu" => Ok(vec![g.gelu(x[0])?]),
        "layer_norm" => Ok(vec![g.layer_norm(x[0], x[1], x[2], 1e-5)?]),
        "split_add" => {
            let halves = g.split(x[0], &[3, 3])?;
            Ok(vec![g.add(halves[0], halves[1])?])
        }
        other => panic!("no such case: {other}"),
    });
}
