//! An op of one's own from start to end: Snake, y = x + sin²(a·x)/a, with which a network learns what is periodic (Ziyin et al.,
//! *Neural networks fail to learn periodic functions and how to fix it*, 2020).
//!
//! Its definition, its kernel, its use, a policy that asks for it by name, and two tests of it: against its definition in f64, and
//! of its derivative. Run: `cargo run -p remat --example custom_op`.

use remat::ops::{Binary, BinaryFunction, Scale, Unary, UnaryFunction};
use remat::{
    AdamWSettings, Array, CheckpointPolicy, Cost, CustomCall, CustomKernel, CustomOp, DType, Decision, Error, Graph,
    Init, IrError, OpClass, Options, Reduction, Rules, Step, Tensor, Type, ValueId, Vjp,
};
use std::sync::Arc;

/// The definition. Its attributes are the text of a, above 0.
struct Snake;

fn frequency(attributes: &str) -> Result<f32, String> {
    let a = attributes.parse().ok().filter(|a: &f32| a.is_finite() && *a > 0.0);
    a.ok_or_else(|| format!("its attributes are a number above 0, not {attributes:?}"))
}

impl CustomOp for Snake {
    fn name(&self) -> &str {
        "snake"
    }

    /// Types of the results, or what does not fit: the graph says it where the op is applied.
    fn infer(&self, attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        frequency(attributes)?;
        match inputs {
            [x] if x.dtype == DType::F32 => Ok(vec![(*x).clone()]),
            [x] => Err(format!("x is {x}, but must be f32: bring it there with Graph::cast")),
            _ => Err(format!("takes one operand, not {}", inputs.len())),
        }
    }

    /// dx = dy·(1 + sin(2·a·x)), of ops that there are: it is planned, recomputed and checked as all else.
    fn vjp(&self, attributes: &str, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let a = frequency(attributes).map_err(|problem| cx.refuse("snake", &problem))?;
        let (x, dy) = (cx.inputs[0], cx.dy("snake")?);
        let angle = cx.emit1("angle", Scale { factor: 2.0 * a }, &[x])?;
        let sine = cx.emit1("sine", Unary { function: UnaryFunction::Sin }, &[angle])?;
        let slope = cx.emit1("slope", Unary { function: UnaryFunction::AddScalar { value: 1.0 } }, &[sine])?;
        let product = Binary::of(BinaryFunction::Mul, cx.builder.ty(dy), cx.builder.ty(slope));
        Ok(vec![Some(cx.emit1("dx", product, &[dy, slope])?)])
    }

    /// About how many operations an element takes, and below whose rates it belongs: a budget weighs its time by that.
    fn cost(&self, _attributes: &str, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(20.0, inputs, outputs)
    }

    fn class(&self, _attributes: &str, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Gelu
    }

    /// What it means, in f64: what the kernel is held to.
    fn eval(&self, attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let a = f64::from(frequency(attributes).expect("infer has accepted it"));
        vec![inputs[0].map(|x| x + (a * x).sin().powi(2) / a)]
    }
}

/// The kernel, which writes every element of the result and gives the same bits whenever it runs.
struct SnakeKernel;

impl CustomKernel for SnakeKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let a = frequency(call.attributes())?;
        let x: &[f32] = bytemuck::cast_slice(call.input(0).bytes);
        let y: &mut [f32] = bytemuck::cast_slice_mut(call.output(0).bytes);
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x + (a * x).sin().powi(2) / a);
        Ok(())
    }
}

const ROWS: usize = 128;
const BLOCKS: usize = 3;

/// A number for each number: three residual blocks of width 16 with the op in their middle, each a region.
fn model() -> Result<(Graph, Tensor), Error> {
    let snake: Arc<dyn CustomOp> = Arc::new(Snake);
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[ROWS, 1])?;
    let y = g.input("y", DType::F32, &[ROWS, 1])?;
    let mut h = g.dense("first", x, 16)?;
    for number in 0..BLOCKS {
        h = g.checkpoint(&format!("blocks.{number}"), |g| {
            let up = g.dense("up", h, 64)?;
            let up = g.custom(&snake, "1.5", &[up])?[0];
            let down = g.dense("down", up, 16)?;
            g.add(h, down)
        })?;
    }
    let last = g.parameter("last", &[1, 16], Init::Linear)?;
    let found = g.linear(h, last, None)?;
    let loss = g.mse_loss(found, y, Reduction::Mean)?;
    Ok((g, loss))
}

/// The kernel goes with the options, by the op's name. The numbers are of x/4 + sin 3x, for x from −4 to 4.
fn compiled(policy: CheckpointPolicy) -> Result<Step, Error> {
    let (g, loss) = model()?;
    let options = Options::new().policy(policy).adamw(AdamWSettings::default()).seed(1);
    let mut step = g.compile(loss, options.kernel("snake", SnakeKernel))?;
    let x: Vec<f32> = (0..ROWS).map(|row| row as f32 / 16.0 - 4.0).collect();
    step.set_input("y", &x.iter().map(|x| x / 4.0 + (3.0 * x).sin()).collect::<Vec<f32>>())?;
    step.set_input("x", &x)?;
    Ok(step)
}

/// Keeps what the op makes, by its name, and computes the rest of a region again.
fn keep_snake() -> CheckpointPolicy {
    CheckpointPolicy::rules(Rules::new().must_save(["snake"]).otherwise(Decision::PreferRecompute))
}

/// How often the op runs again in a step, and how many of its results are kept.
fn again_and_kept(step: &Step) -> (usize, usize) {
    let again = step.op_runs().get("custom").map_or(0, |runs| runs.recomputed);
    let kept = step.saved_residuals().iter().filter(|value| value.name.ends_with(".snake")).count();
    (again, kept)
}

/// The slope of the loss along the gradient of a parameter, and what the gradient says it is.
fn slopes(step: &mut Step, parameter: &str) -> Result<(f32, f32), Error> {
    step.run()?;
    let gradient = step.gradient(parameter)?;
    let at = step.parameter(parameter)?;
    let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
    const DISTANCE: f32 = 1e-2;
    let mut loss_at = |distance: f32| {
        let moved: Vec<f32> = at.iter().zip(&gradient).map(|(p, g)| p + distance * g / norm).collect();
        step.set_parameter(parameter, &moved)?;
        step.run()
    };
    let slope = (loss_at(DISTANCE)? - loss_at(-DISTANCE)?) / (2.0 * DISTANCE);
    step.set_parameter(parameter, &at)?;
    step.zero_gradients()?;
    Ok((slope, norm))
}

fn train(step: &mut Step, updates: usize) -> Result<Vec<f32>, Error> {
    let mut losses = Vec::new();
    for _ in 0..updates {
        losses.push(step.run()?);
        step.update(5e-3)?;
    }
    Ok(losses)
}

fn tour() -> Result<(), Error> {
    let mut recomputing = compiled(CheckpointPolicy::full())?;
    let mut keeping = compiled(keep_snake())?;
    // Validation compares each value with its definition, and what is computed again with the bits of the first time.
    let validated = recomputing.validate()?;
    println!("validated: {} definitions, {} replays", validated.reference_values, validated.replayed_values);
    assert!(validated.reference_values > 0 && validated.replayed_values > 0);

    let (slope, expected) = slopes(&mut recomputing, "blocks.1.up.weight")?;
    println!("slope of the loss: {slope:.5}, by the derivative {expected:.5}");
    assert!((slope - expected).abs() < 0.01 * expected, "{slope} and {expected}");

    let (full, selective) = (again_and_kept(&recomputing), again_and_kept(&keeping));
    println!("runs again and kept: {full:?} under full, {selective:?} under a policy that names it");
    assert!(full.0 > 0 && selective == (0, BLOCKS), "{full:?}, {selective:?}");

    let losses = train(&mut recomputing, 300)?;
    println!("loss {:.4} -> {:.4}", losses[0], losses[299]);
    assert!(losses[299] < 0.05 * losses[0], "{} from {}", losses[299], losses[0]);
    assert!(losses[..20] == train(&mut keeping, 20)?, "no policy changes a bit");
    Ok(())
}

fn main() -> Result<(), Error> {
    tour()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_of_ones_own_trains_and_is_what_it_says() {
        tour().expect("goes well");
    }

    #[test]
    fn what_it_does_not_take_is_refused_where_it_is_applied() {
        let snake: Arc<dyn CustomOp> = Arc::new(Snake);
        let mut g = Graph::new();
        let x = g.input("x", DType::F32, &[2, 3]).expect("an input");
        let ids = g.input("ids", DType::I32, &[2, 3]).expect("an input");
        for (attributes, operands, expected) in [
            ("none", vec![x], "its attributes are a number above 0, not \"none\""),
            ("0", vec![x], "its attributes are a number above 0, not \"0\""),
            ("1", vec![ids], "must be f32: bring it there with Graph::cast"),
            ("1", vec![x, x], "takes one operand, not 2"),
        ] {
            let refused = g.custom(&snake, attributes, &operands).expect_err("does not fit").to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
