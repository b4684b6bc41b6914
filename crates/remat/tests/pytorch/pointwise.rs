//! Functions of one and of two tensors, and comparisons.

use crate::case::check;
use remat::{Error, Graph, Tensor};

#[test]
fn functions_and_comparisons_match_pytorch() {
    check("pointwise", |g, case, x| {
        let y = match unary(g, case, x[0]) {
            Some(y) => y,
            None => binary(g, case, x[0], x[1]),
        };
        Ok(vec![y?])
    });
}

fn unary(g: &mut Graph, case: &str, x: Tensor) -> Option<Result<Tensor, Error>> {
    Some(match case {
        "relu" => g.relu(x),
        "leaky_relu" => g.leaky_relu(x, 0.125),
        "leaky_relu_turned" => g.leaky_relu(x, -0.5),
        "elu" => g.elu(x, 1.5),
        "elu_turned" => g.elu(x, -0.5),
        "sigmoid" => g.sigmoid(x),
        "tanh" => g.tanh(x),
        "silu" => g.silu(x),
        "softplus" => g.softplus(x),
        "exp" => g.exp(x),
        "log" => g.log(x),
        "sqrt" => g.sqrt(x),
        "rsqrt" => g.rsqrt(x),
        "reciprocal" => g.reciprocal(x),
        "abs" => g.abs(x),
        "sign" => g.sign(x),
        "neg" => g.neg(x),
        "square" => g.square(x),
        "pow" => g.pow(x, 2.5),
        "pow_whole" => g.pow(x, 3.0),
        "pow_none" => g.pow(x, 0.0),
        "sin" => g.sin(x),
        "cos" => g.cos(x),
        "clamp" => g.clamp(x, -1.0, 0.5),
        "clamp_min" => g.clamp(x, -1.0, f32::INFINITY),
        "add_scalar" => g.add_scalar(x, 0.375),
        "mul_scalar" => g.mul_scalar(x, -1.75),
        _ => return None,
    })
}

fn binary(g: &mut Graph, case: &str, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
    match case {
        "add" | "add_row" | "add_column" | "add_middle" => g.add(a, b),
        "sub" | "sub_row" | "sub_column" | "sub_middle" => g.sub(a, b),
        "mul" | "mul_row" | "mul_column" | "mul_middle" => g.mul(a, b),
        "div" | "div_one" => g.div(a, b),
        "pow_tensor" | "pow_tensor_of_zero" => g.pow_tensor(a, b),
        "maximum" => g.maximum(a, b),
        "minimum" => g.minimum(a, b),
        "eq" | "eq_of_ids" => g.eq(a, b),
        "ne" | "ne_of_ids" => g.ne(a, b),
        "lt" | "lt_of_ids" => g.lt(a, b),
        "le" | "le_of_ids" => g.le(a, b),
        "gt" | "gt_of_ids" => g.gt(a, b),
        "ge" | "ge_of_ids" => g.ge(a, b),
        other => panic!("no such case: {other}"),
    }
}
