//! A model with buffers in training and in evaluation: shared with the evaluation, saved in the middle of an accumulation,
//! carried over a change of policy, left alone by a validation.

use remat::modules::{BatchNorm1d, Dropout, Linear};
use remat::{
    AdamWSettings, BatchNormOptions, CheckpointPolicy, DType, Error, Graph, Init, Observer, Options, Plan, Step,
    StepId, StepMemory, Tensor,
};

const ROWS: usize = 16;

/// Three blocks with batch norm and dropout; the same names in training and evaluation.
fn model(mut g: Graph) -> Result<(Graph, Tensor), Error> {
    let x = g.input("x", DType::F32, &[ROWS, 8])?;
    let classes = g.input("classes", DType::I32, &[ROWS])?;
    let mut h = x;
    for layer in 0..3 {
        h = g.checkpoint(&format!("layers.{layer}"), |g| {
            let fc = Linear::new(g, "fc", 8, 8, false)?;
            let norm = BatchNorm1d::new(g, "norm", 8, BatchNormOptions::default())?;
            let up = fc.forward(g, h)?;
            let up = norm.forward(g, up)?;
            let up = g.relu(up)?;
            let up = Dropout { p: 0.25 }.forward(g, up)?;
            g.add(h, up)
        })?;
    }
    let head = g.parameter("head", &[4, 8], Init::Linear)?;
    let loss = g.cross_entropy(h, head, classes)?;
    Ok((g, loss))
}

const LOSS: &str = "held_out";

fn evaluation() -> Graph {
    let (mut g, loss) = model(Graph::evaluation()).expect("a model");
    let held_out = g.op(LOSS, remat::ops::Scale { factor: 1.0 }, &[loss]).expect("a number");
    g.output(held_out[0]).expect("its own");
    g
}

fn compiled(policy: CheckpointPolicy) -> Step {
    let (graph, loss) = model(Graph::new()).expect("a model");
    let options = Options::new().seed(3).policy(policy).threads(1).adamw(AdamWSettings::default());
    graph.compile(loss, options.evaluation(evaluation())).expect("compiles")
}

fn feed(step: &mut Step, at: usize) {
    let x: Vec<f32> = (0..ROWS * 8).map(|i| ((i * 37 + at * 11) % 101) as f32 / 50.0 - 0.5).collect();
    let classes: Vec<i32> = (0..ROWS).map(|row| ((row + at) % 4) as i32).collect();
    step.set_input("x", &x).expect("fits");
    step.set_input("classes", &classes).expect("fits");
}

/// The bits of all that a step has learnt: parameters and buffers.
fn learnt(step: &Step) -> Vec<u32> {
    let parameters = step.parameter_names().into_iter().flat_map(|name| step.parameter(name).expect("a parameter"));
    let buffers = step.buffer_names().flat_map(|name| step.buffer(name).expect("a buffer"));
    parameters.chain(buffers).map(f32::to_bits).collect()
}

fn buffers(step: &Step) -> Vec<u32> {
    step.buffer_names().flat_map(|name| step.buffer(name).expect("a buffer")).map(f32::to_bits).collect()
}

fn evaluated(step: &mut Step) -> u32 {
    step.evaluate().expect("runs");
    step.evaluation_output(LOSS).expect("an output")[0].to_bits()
}

/// Micro-batches `from..to`, two of them an update; the bits of every loss and norm, and of an evaluation after each update.
fn train(step: &mut Step, from: usize, to: usize) -> Vec<u32> {
    let mut bits = Vec::new();
    for at in from..to {
        feed(step, at);
        bits.push(step.run_scaled(0.5).expect("runs").to_bits());
        if at % 2 == 1 {
            bits.push(step.update(1e-2).expect("updates").to_bits());
            bits.push(evaluated(step));
        }
    }
    bits
}

#[test]
fn batch_norm_is_resumed_exactly_in_the_middle_of_an_accumulation() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.safetensors");
    let mut whole = compiled(CheckpointPolicy::full());
    train(&mut whole, 0, 5);
    whole.save(&path).expect("writes");
    let saved = buffers(&whole);
    let then = train(&mut whole, 5, 10);
    assert_ne!(buffers(&whole), saved, "they move");
    let mut resumed = compiled(CheckpointPolicy::none());
    train(&mut resumed, 0, 2);
    assert_ne!(buffers(&resumed), saved, "it has gone elsewhere");
    resumed.load_state(&path).expect("fits");
    assert_eq!(buffers(&resumed), saved);
    assert_eq!(train(&mut resumed, 5, 10), then);
    assert_eq!(learnt(&resumed), learnt(&whole));
}

#[test]
fn a_saved_step_with_other_buffers_is_refused_by_name() {
    let step = |buffer: Option<&[usize]>| {
        let mut g = Graph::new();
        let w = g.parameter("w", &[2], Init::Ones).expect("a parameter");
        let read = match buffer {
            Some(shape) => {
                g.buffer("scale", shape, Init::Ones).and_then(|buffer| g.mul(w, buffer)).expect("broadcasts")
            }
            None => w,
        };
        let loss = g.sum(read).expect("a number");
        g.compile(loss, Options::new().threads(1)).expect("compiles")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.safetensors");
    step(Some(&[2])).save(&path).expect("writes");
    for (buffer, message) in [
        (Some(&[1][..]), "\"scale\" is f32[2] there and f32[1] here: it is of another graph"),
        (None, "has \"scale\", which this step has not: it is of another graph"),
    ] {
        let error = step(buffer).load_state(&path).expect_err("another graph").to_string();
        assert_eq!(error, format!("{}: {message}", path.display()));
    }
}

#[test]
fn evaluation_shares_buffers_and_moves_none() {
    let mut step = compiled(CheckpointPolicy::full());
    let alone = {
        let (graph, loss) = model(Graph::new()).expect("a model");
        let options = Options::new().seed(3).threads(1).adamw(AdamWSettings::default());
        graph.compile(loss, options).expect("compiles")
    };
    assert_eq!(step.memory().state_bytes, alone.memory().state_bytes, "nothing is held twice");
    let mut separate = evaluation().compile_forward(Options::new().threads(1)).expect("compiles");
    let mut seen = Vec::new();
    for at in 0..4 {
        train(&mut step, at, at + 1);
        let before = (learnt(&step), step.random_key());
        feed(&mut step, 9);
        seen.push(evaluated(&mut step));
        assert_eq!(evaluated(&mut step), seen[at]);
        assert_eq!((learnt(&step), step.random_key()), before);
        separate.copy_parameters_from(&step).expect("the same names");
        feed(&mut separate, 9);
        separate.run_forward().expect("runs");
        assert_eq!(separate.output(LOSS).expect("an output")[0].to_bits(), seen[at]);
    }
    // From 0 to 1 only the buffers have moved: one run, and no update.
    assert_ne!(seen[0], seen[2]);
    step.set_buffer("layers.1.norm.running_mean", &[4.0; 8]).expect("fits");
    assert_ne!(evaluated(&mut step), seen[3], "what is written to a buffer is what evaluation reads");
}

#[test]
fn a_change_of_policy_keeps_buffers() {
    let mut steady = compiled(CheckpointPolicy::full());
    let mut switched = compiled(CheckpointPolicy::full());
    for (at, policy) in
        [CheckpointPolicy::none(), CheckpointPolicy::every(2), CheckpointPolicy::full()].into_iter().enumerate()
    {
        assert_eq!(train(&mut switched, 3 * at, 3 * at + 3), train(&mut steady, 3 * at, 3 * at + 3));
        switched.set_policy(policy).expect("compiles");
        assert_eq!(learnt(&switched), learnt(&steady));
    }
    // An arena that cannot be had leaves all as it was.
    let error = switched.set_policy(CheckpointPolicy::budget(1)).expect_err("no room");
    assert!(!error.to_string().is_empty());
    assert_eq!(learnt(&switched), learnt(&steady));
    assert_eq!(train(&mut switched, 9, 12), train(&mut steady, 9, 12));
}

struct Count(usize);

impl Observer for Count {
    fn after_step(&mut self, _plan: &Plan, _step: StepId, _memory: &dyn StepMemory) {
        self.0 += 1;
    }
}

#[test]
fn a_run_that_is_watched_moves_buffers_once_and_a_validation_not_at_all() {
    let (mut plain, mut watched) = (compiled(CheckpointPolicy::full()), compiled(CheckpointPolicy::full()));
    for at in 0..3 {
        feed(&mut plain, at);
        feed(&mut watched, at);
        let before = (learnt(&watched), watched.random_key());
        watched.validate().expect("replays");
        assert_eq!((learnt(&watched), watched.random_key()), before);
        let mut count = Count(0);
        let loss = watched.run_observed(&mut count).expect("runs");
        assert_eq!(count.0, watched.plan().steps.len());
        assert_eq!(loss.to_bits(), plain.run().expect("runs").to_bits());
        assert_ne!(learnt(&watched), before.0, "it is a run");
        assert_eq!((learnt(&watched), watched.random_key()), (learnt(&plain), plain.random_key()));
    }
}

/// One norm, its parameters and buffers as given.
fn normed(mut g: Graph, training: Option<bool>) -> Result<(Graph, Tensor), Error> {
    let x = g.input("x", DType::F32, &[4, 2])?;
    let options = BatchNormOptions { training, momentum: 0.5, ..BatchNormOptions::default() };
    let norm = BatchNorm1d::new(&mut g, "norm", 2, options)?;
    let y = norm.forward(&mut g, x)?;
    g.output(y)?;
    let loss = g.sum(y)?;
    Ok((g, loss))
}

#[test]
fn a_layer_may_say_otherwise_than_its_graph() -> Result<(), Error> {
    for (graph, training, moves) in [
        (Graph::new(), None, true),
        (Graph::new(), Some(true), true),
        (Graph::new(), Some(false), false),
        (Graph::evaluation(), None, false),
        (Graph::evaluation(), Some(true), true),
        (Graph::evaluation(), Some(false), false),
    ] {
        let (g, loss) = normed(graph, training)?;
        let mut step = g.compile(loss, Options::new().threads(1))?;
        step.set_input("x", &[1.0_f32, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0])?;
        step.run()?;
        let wanted = if moves { [0.5, 1.0] } else { [0.0, 0.0] };
        assert_eq!(step.buffer("norm.running_mean")?, wanted, "{training:?}");
    }
    Ok(())
}

#[test]
fn an_evaluation_that_would_move_buffers_or_has_others_is_refused() -> Result<(), Error> {
    let compiled = |evaluation: Graph| {
        let (g, loss) = normed(Graph::new(), None).expect("a model");
        g.compile(loss, Options::new().threads(1).evaluation(evaluation)).map(|_| ())
    };
    let message = "the evaluation would update the buffer \"norm.running_mean\", which is the training step's: make it in a \
                   Graph::evaluation, without BatchNormOptions::training";
    for (graph, training) in [(Graph::new(), None), (Graph::evaluation(), Some(true))] {
        assert_eq!(compiled(normed(graph, training)?.0).expect_err("it moves them").to_string(), message);
    }
    // What trains with the running statistics evaluates with them, too, from either graph.
    compiled(normed(Graph::new(), Some(false))?.0)?;
    for (frozen, given) in [(true, "frozen weight"), (false, "parameter")] {
        let mut g = Graph::evaluation();
        let make = if frozen { Graph::frozen } else { Graph::parameter };
        let w = make(&mut g, "norm.running_mean", &[2], Init::Ones)?;
        g.output(w)?;
        let expected =
            format!("source \"norm.running_mean\" is a buffer f32[2]; a {given} f32[2] for evaluation was given");
        assert_eq!(compiled(g).expect_err("another kind").to_string(), expected);
    }
    Ok(())
}

/// A buffer that only the evaluation reads is one of the step's all the same.
#[test]
fn a_buffer_of_the_evaluation_alone_is_kept_with_the_step() -> Result<(), Error> {
    let model = |mut g: Graph| -> Result<(Graph, Tensor), Error> {
        let w = g.parameter("w", &[2], Init::Ones)?;
        let scale = g.buffer("scale", &[2], Init::Values(vec![2.0, 3.0]))?;
        let y = if g.is_training() { w } else { g.mul(w, scale)? };
        let loss = g.sum(y)?;
        g.output(loss)?;
        Ok((g, loss))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.safetensors");
    let compiled = || {
        let (g, loss) = model(Graph::new())?;
        g.compile(loss, Options::new().threads(1).evaluation(model(Graph::evaluation())?.0))
    };
    let mut step = compiled()?;
    assert_eq!(step.buffer_names().collect::<Vec<_>>(), ["scale"]);
    step.evaluate()?;
    assert_eq!(step.evaluation_output("sum")?, [5.0]);
    step.set_buffer("scale", &[5.0, 6.0])?;
    step.set_policy(CheckpointPolicy::full())?;
    step.save(&path)?;
    let mut other = compiled()?;
    other.load_state(&path)?;
    other.evaluate()?;
    assert_eq!((other.buffer("scale")?, other.evaluation_output("sum")?), (vec![5.0, 6.0], vec![11.0]));
    Ok(())
}
