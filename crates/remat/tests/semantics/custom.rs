//! Ops of a user's own, and C: validation of replays.

use crate::models::{WIDTH, bits, chain, classifier, feed, policies, started};
use remat::{
    Array, CheckpointPolicy, Custom, CustomCall, CustomKernel, CustomOp, DType, Error, Graph, IrError, Options, Step,
    Tensor, Type, ValueId, Vjp,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// y = x², element-wise.
struct Square {
    deterministic: bool,
}

impl CustomOp for Square {
    fn name(&self) -> &str {
        "square"
    }
    fn infer(&self, _attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![(*x).clone()]),
            _ => Err(format!("expects one operand of real numbers, not {}", inputs.len())),
        }
    }
    fn vjp(&self, _attributes: &str, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("square")?;
        let x = cx.inputs[0];
        Ok(vec![Some(cx.emit1("dx", Custom::new(Arc::new(SquareGrad), ""), &[dy, x])?)])
    }
    fn eval(&self, _attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| x * x)]
    }
    fn deterministic(&self) -> bool {
        self.deterministic
    }
}

/// dx = 2·x·dy.
struct SquareGrad;

impl CustomOp for SquareGrad {
    fn name(&self) -> &str {
        "square_grad"
    }
    fn infer(&self, _attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        Ok(vec![inputs[1].clone()])
    }
    fn eval(&self, _attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |dy, x| 2.0 * x * dy)]
    }
}

fn floats(bytes: &[u8]) -> &[f32] {
    bytemuck::cast_slice(bytes)
}

struct SquareKernel;

impl CustomKernel for SquareKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let x = floats(call.input(0).bytes);
        let y = call.output(0);
        bytemuck::cast_slice_mut::<u8, f32>(y.bytes).iter_mut().zip(x).for_each(|(y, x)| *y = x * x);
        Ok(())
    }
}

struct SquareGradKernel;

impl CustomKernel for SquareGradKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let (dy, x) = (floats(call.input(0).bytes), floats(call.input(1).bytes));
        let dx = bytemuck::cast_slice_mut::<u8, f32>(call.output(0).bytes);
        dx.iter_mut().zip(dy).zip(x).for_each(|((dx, dy), x)| *dx = 2.0 * x * dy);
        Ok(())
    }
}

/// Multiplies by a number that grows from run to run: what a kernel must not do.
#[derive(Default)]
struct DriftingKernel(AtomicU32);

impl CustomKernel for DriftingKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let drift = 1.0 + self.0.fetch_add(1, Ordering::Relaxed) as f32 * 1e-6;
        let x = floats(call.input(0).bytes);
        let y = bytemuck::cast_slice_mut::<u8, f32>(call.output(0).bytes);
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x * x * drift);
        Ok(())
    }
}

/// Three regions with a square each, whose result and operand backward reads.
fn model(deterministic: bool) -> (Graph, Tensor) {
    let square: Arc<dyn CustomOp> = Arc::new(Square { deterministic });
    classifier(|g, x| {
        (0..3).try_fold(x, |h, i| {
            g.checkpoint(&format!("layers.{i}"), |g| {
                let h = g.dense("a", h, WIDTH)?;
                let h = g.custom(&square, "", &[h])?[0];
                g.dense("b", h, WIDTH)
            })
        })
    })
}

fn step(deterministic: bool, kernel: impl CustomKernel + 'static, policy: CheckpointPolicy) -> Result<Step, Error> {
    let (g, loss) = model(deterministic);
    let options = Options::new().policy(policy).seed(7).threads(1);
    let mut step = g.compile(loss, options.kernel("square", kernel).kernel("square_grad", SquareGradKernel))?;
    feed(&mut step);
    Ok(step)
}

#[test]
fn a_custom_op_is_bit_identical_under_every_policy_and_matches_its_definition() {
    let expected = bits(&mut step(true, SquareKernel, CheckpointPolicy::none()).expect("compiles"));
    for policy in policies().into_iter().filter(|policy| !policy.to_string().starts_with("save_any")) {
        let mut step = step(true, SquareKernel, policy.clone()).expect("compiles");
        assert!(bits(&mut step) == expected, "{policy}");
        let compared = step.validate().expect("matches the interpreter");
        assert!(compared.reference_values > 10, "{compared:?}");
    }
}

#[test]
fn a_missing_kernel_is_an_error_before_the_first_step() {
    let (g, loss) = model(true);
    let refused = g.compile(loss, Options::new()).expect_err("no kernel").to_string();
    assert!(refused.contains("no kernel is registered under \"square\""), "{refused}");
}

#[test]
fn operands_that_a_custom_op_refuses_and_a_missing_derivative_are_named() {
    let square: Arc<dyn CustomOp> = Arc::new(Square { deterministic: true });
    let (mut g, loss) = chain(1);
    let refused = g.custom(&square, "", &[loss, loss]).expect_err("two operands").to_string();
    assert!(refused.contains("custom \"square\": \"square\": expects one operand"), "{refused}");
    let grad: Arc<dyn CustomOp> = Arc::new(SquareGrad);
    let twice = g.custom(&grad, "", &[loss, loss]).expect("fits")[0];
    let refused = g.compile(twice, Options::new()).expect_err("no vjp").to_string();
    assert!(refused.contains("\"square_grad\" defines no vjp"), "{refused}");
}

#[test]
fn c13_a_custom_op_that_claims_to_be_deterministic_and_is_not_is_caught_and_named() {
    let mut step = step(true, DriftingKernel::default(), CheckpointPolicy::full()).expect("compiles");
    assert!(step.op_runs()["custom"].recomputed > 0);
    let caught = step.validate().expect_err("it drifts").to_string();
    assert!(caught.contains("\"layers.1.square\" was computed again with other bits"), "{caught}");
    assert!(caught.contains("(custom \"square\" in layers.1)"), "{caught}");
}

/// Wrong in one row, by a part of it.
struct SlightlyWrongKernel(f32);

impl CustomKernel for SlightlyWrongKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let x = floats(call.input(0).bytes);
        let y = bytemuck::cast_slice_mut::<u8, f32>(call.output(0).bytes);
        for (index, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y = x * x * if index / WIDTH == 1 { 1.0 + self.0 } else { 1.0 };
        }
        Ok(())
    }
}

#[test]
fn kernel_errors_of_a_ten_thousandth_in_one_row_are_caught_and_named() {
    let mut sound = step(true, SlightlyWrongKernel(0.0), CheckpointPolicy::none()).expect("compiles");
    sound.validate().expect("sound");
    let mut step = step(true, SlightlyWrongKernel(1e-4), CheckpointPolicy::none()).expect("compiles");
    let caught = step.validate().expect_err("one row is wrong").to_string();
    assert!(caught.contains("\"layers.0.square\" differs from its definition in row 1 by"), "{caught}");
    assert!(caught.contains("(custom \"square\" in layers.0)"), "{caught}");
}

#[test]
fn c13_what_is_declared_not_deterministic_is_kept_and_never_run_again() {
    for policy in policies().into_iter().filter(|policy| !policy.to_string().starts_with("save_any")) {
        let mut step = step(false, DriftingKernel::default(), policy.clone()).expect("compiles");
        assert_eq!(step.op_runs()["custom"].recomputed, 0, "{policy}");
        step.validate().unwrap_or_else(|error| panic!("{policy}: {error}"));
    }
}

#[test]
fn c13_validation_passes_on_sound_steps_and_changes_nothing() {
    for policy in policies() {
        let mut step = started(chain(3), policy.clone());
        let compared = step.validate().unwrap_or_else(|error| panic!("{policy}: {error}"));
        let recomputed: usize = step.op_runs().values().map(|runs| runs.recomputed).sum();
        assert_eq!(compared.replayed_values, recomputed, "{policy}: each of these ops has one result");
        assert!(compared.reference_values > 20, "{policy}");
        assert_eq!(step.gradient("head").expect("trained"), vec![0.0; 3 * WIDTH], "the validation left no gradient");
    }
    let mut fresh = started(chain(3), CheckpointPolicy::full());
    let mut validated = started(chain(3), CheckpointPolicy::full());
    validated.validate().expect("sound");
    assert!(bits(&mut fresh) == bits(&mut validated));
}

#[test]
fn c13_poison_changes_no_bit_of_a_sound_step() {
    let expected = bits(&mut started(chain(4), CheckpointPolicy::none()));
    for policy in policies() {
        let (g, loss) = chain(4);
        let options = Options::new().policy(policy.clone()).poison(true).seed(7).threads(1);
        let mut step = g.compile(loss, options).expect("compiles");
        feed(&mut step);
        assert!(bits(&mut step) == expected, "{policy}");
    }
}

/// y = x times a number in [1, 2) that a key draws for each element.
struct Jitter;

fn drawn(key: [u32; 4], element: usize) -> f32 {
    let word = key.iter().fold(element as u32, |word, &part| word.wrapping_mul(31).wrapping_add(part));
    1.0 + (word % 64) as f32 / 64.0
}

impl CustomOp for Jitter {
    fn name(&self) -> &str {
        "jitter"
    }
    fn infer(&self, _attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        match inputs {
            [x, key] if x.dtype == DType::F32 && key.to_string() == "u32[4]" => Ok(vec![(*x).clone()]),
            _ => Err("expects x f32 and a key u32[4]".to_string()),
        }
    }
    fn vjp(&self, _attributes: &str, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let (dy, key) = (cx.dy("jitter")?, cx.inputs[1]);
        Ok(vec![Some(cx.emit1("dx", Custom::new(Arc::new(Jitter), ""), &[dy, key])?), None])
    }
    fn eval(&self, _attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let key = std::array::from_fn(|word| inputs[1].data[word] as u32);
        let mut y = inputs[0].clone();
        y.data.iter_mut().enumerate().for_each(|(element, y)| *y *= f64::from(drawn(key, element)));
        vec![y]
    }
}

struct JitterKernel;

impl CustomKernel for JitterKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let key: [u32; 4] = bytemuck::pod_read_unaligned(call.input(1).bytes);
        let x = floats(call.input(0).bytes);
        let y = bytemuck::cast_slice_mut::<u8, f32>(call.output(0).bytes);
        y.iter_mut().zip(x).enumerate().for_each(|(element, (y, x))| *y = x * drawn(key, element));
        Ok(())
    }
}

#[test]
fn a_custom_op_draws_by_the_runs_key_and_draws_the_same_again() {
    let losses = |policy: CheckpointPolicy| {
        let jitter: Arc<dyn CustomOp> = Arc::new(Jitter);
        let (g, loss) = classifier(|g, x| {
            g.checkpoint("block", |g| {
                let key = g.random_key();
                let h = g.dense("a", x, WIDTH)?;
                let h = g.custom(&jitter, "", &[h, key])?[0];
                let h = g.gelu(h)?;
                g.dense("b", h, WIDTH)
            })
        });
        let options = Options::new().policy(policy).seed(7).threads(1).kernel("jitter", JitterKernel);
        let mut step = g.compile(loss, options).expect("compiles");
        feed(&mut step);
        let key = step.random_key();
        let mut losses = [(); 2].map(|()| step.run().expect("runs").to_bits()).to_vec();
        step.set_random_key(key);
        losses.push(step.run().expect("runs").to_bits());
        step.validate().expect("matches the interpreter, and its replays the first run");
        losses
    };
    let kept = losses(CheckpointPolicy::none());
    assert_ne!(kept[0], kept[1], "another run, another key");
    assert_eq!(kept[0], kept[2], "the same key again");
    assert_eq!(kept, losses(CheckpointPolicy::full()));
}
