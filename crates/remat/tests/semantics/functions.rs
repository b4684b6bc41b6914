//! The functions of the library in a step: which policies tell a batched product from a layer, what inputs are refused, and what
//! arguments are.

use crate::models::{WIDTH, assert_same_under_every_policy, classifier, started};
use remat::{CheckpointPolicy, DType, Error, Graph, Init, Options, Step, Tensor};

/// Attention of single ops in one region, with another region behind it.
fn written_out_attention() -> (Graph, Tensor) {
    classifier(|g, x| {
        let h = g.checkpoint("attention", |g| {
            let heads = |g: &mut Graph, name: &str| {
                let all = g.dense(name, x, WIDTH)?;
                let all = g.reshape(all, &[4, -1, 2, WIDTH as isize / 2])?;
                g.transpose(all, 1, 2)
            };
            let (q, k, v) = (heads(g, "q")?, heads(g, "k")?, heads(g, "v")?);
            let scores = g.matmul_transposed(q, k)?;
            let weights = g.softmax(scores, -1)?;
            let out = g.matmul(weights, v)?;
            let out = g.transpose(out, 1, 2)?;
            g.reshape(out, &[-1, WIDTH as isize])
        })?;
        g.checkpoint("last", |g| {
            let mean = g.mean_dim(h, &[-1], true)?;
            let h = g.sub(h, mean)?;
            let h = g.dense("fc", h, WIDTH)?;
            g.silu(h)
        })
    })
}

#[test]
fn attention_of_single_ops_gives_the_same_bits_under_every_policy() {
    assert_same_under_every_policy(written_out_attention);
}

/// How often linears and products of activations run again.
fn runs_again(policy: CheckpointPolicy) -> [usize; 2] {
    let runs = started(written_out_attention(), policy).op_runs();
    ["linear", "matmul"].map(|op| runs[op].recomputed)
}

#[test]
fn policies_tell_products_with_batch_axes_from_layers() {
    assert_eq!(runs_again(CheckpointPolicy::dots_saveable()), [0, 0]);
    // Scores are made again for the softmax, whose result backward reads.
    assert_eq!(runs_again(CheckpointPolicy::dots_with_no_batch_dims_saveable()), [0, 1]);
    assert_eq!(runs_again(CheckpointPolicy::nothing_saveable()), [3, 1]);
}

#[test]
fn the_cotangent_of_the_loss_can_itself_be_a_gradient() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[1]).expect("new");
    let loss = g.add_scalar(x, 2.0).expect("real numbers");
    let mut step = g.compile(loss, Options::new().threads(1).gradients_of([x])).expect("compiles");
    step.set_input("x", &[3.0_f32]).expect("fits");
    assert_eq!(step.run_scaled(0.5).expect("runs"), 5.0);
    assert_eq!(step.gradient("x").expect("wanted"), [0.5]);
}

/// A step of one function of x [2, 3] and an i32 input of this shape.
fn of_integers(
    shape: &[usize],
    function: impl FnOnce(&mut Graph, Tensor, Tensor) -> Result<Tensor, Error>,
) -> Result<Step, Error> {
    let mut g = Graph::new();
    let x = g.parameter("x", &[2, 3], Init::Ones)?;
    let integers = g.input("integers", DType::I32, shape)?;
    let y = function(&mut g, x, integers)?;
    let loss = g.sum(y)?;
    g.compile(loss, Options::new().threads(1))
}

#[test]
fn ids_and_masks_outside_their_range_are_errors_by_name_and_the_step_stays_usable() {
    type Function = fn(&mut Graph, Tensor, Tensor) -> Result<Tensor, Error>;
    let cases: [(&[usize], Function, i32, &str); 5] = [
        (&[4], |g, x, ids| g.index_select(x, 1, ids), 3, "id 3 lies outside the axis, which has ids 0 to 2"),
        (&[4], |g, x, ids| g.index_select(x, 0, ids), -1, "id -1 lies outside the axis, which has ids 0 to 1"),
        (&[2, 2], |g, x, ids| g.gather(x, 1, ids), 3, "id 3 lies outside the axis, which has ids 0 to 2"),
        (&[2, 1], |g, x, mask| g.masked_fill(x, mask, 2.0), 2, "the mask holds 2: a mask is of 0 and 1"),
        (&[1], |g, x, mask| g.where_mask(mask, x, x), -1, "the mask holds -1: a mask is of 0 and 1"),
    ];
    for (shape, function, wrong, expected) in cases {
        let mut step = of_integers(shape, function).expect("compiles");
        let elements: usize = shape.iter().product();
        let mut integers = vec![1; elements];
        integers[elements - 1] = wrong;
        step.set_input("integers", &integers).expect("fits");
        let refused = step.run().expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused}");
        step.set_input("integers", &vec![1; elements]).expect("fits");
        assert!(step.run().expect("runs").is_finite());
    }
}

#[test]
fn arguments_that_do_not_fit_are_told_with_the_shape() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[2, 3, 1]).expect("new");
    let ids = g.input("ids", DType::I32, &[2, 3, 1]).expect("new");
    let told = |made: Result<Tensor, Error>, expected: &str| {
        let refused = made.expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    told(g.transpose(x, 0, 3), "x f32[2, 3, 1] has no axis 3: axes are -3 to 2");
    told(g.softmax(x, -4), "x f32[2, 3, 1] has no axis -4");
    told(g.softmax(x, isize::MIN), "has no axis");
    told(g.sum_dim(x, &[0, -3], false), "axes [0, -3] of x f32[2, 3, 1] name one twice");
    told(g.reshape(x, &[-1, -1]), "shape [-1, -1] does not hold the elements of x f32[2, 3, 1]");
    told(g.reshape(x, &[4, -1]), "shape [4, -1] does not hold");
    told(g.reshape(x, &[0, -1]), "shape [0, -1] does not hold");
    told(g.reshape(x, &[isize::MAX, isize::MAX]), "does not hold");
    told(g.squeeze(x, 1), "axis 1 of x f32[2, 3, 1] has more than one element");
    told(g.unsqueeze(x, 4), "x f32[2, 3, 1] with one more axis has no axis 4");
    told(g.flatten(x, 1, 0), "axis 0 of x f32[2, 3, 1] stands before axis 1");
    told(g.narrow(x, 1, 2, usize::MAX), "axis 1 of x f32[2, 3, 1] has no elements");
    told(g.pad(x, &[(0, 1)], 0.0), "must have one number for each axis of x f32[2, 3, 1]");
    told(g.cat(&[], 0), "there is nothing to join");
    told(g.cat(&[x, ids], 0), "operand 1 i32[2, 3, 1] and operand 0 f32[2, 3, 1] may differ in axis 0 only");
    told(g.var(x, &[-1], 1, false), "1 elements of x f32[2, 3, 1] have no variance with correction 1");
    told(g.mul(x, ids), "b i32[2, 3, 1] must hold real numbers");
    told(g.relu(ids), "x i32[2, 3, 1] must hold real numbers");
    told(g.clamp(x, 1.0, f32::NAN), "min must be at most max");
    told(g.masked_fill(x, ids, f32::NAN), "attribute value must be a number");
    told(g.chunk(x, 2, 1).map(|pieces| pieces[0]), "2 pieces do not divide axis 1 of x f32[2, 3, 1]");
    // What was refused has left nothing behind.
    g.output(x).expect("its own");
    assert!(g.compile_forward(Options::new().threads(1)).is_ok());
}
