//! Small models and their runs. Invariant: the same model under every policy, from the same first parameters.

use remat::{CheckpointPolicy, DType, Decision, Error, Graph, Init, Options, Step, Tensor};

pub const ROWS: usize = 24;
pub const WIDTH: usize = 16;

/// Inputs `x` [24, 16] and `classes` [24] and a head of three classes over what `body` makes of x.
pub fn classifier(body: impl FnOnce(&mut Graph, Tensor) -> Result<Tensor, Error>) -> (Graph, Tensor) {
    let build = || -> Result<(Graph, Tensor), Error> {
        let mut g = Graph::new();
        let x = g.input("x", DType::F32, &[ROWS, WIDTH])?;
        let classes = g.input("classes", DType::I32, &[ROWS])?;
        let h = body(&mut g, x)?;
        let head = g.parameter("head", &[3, WIDTH], Init::Normal(0.3))?;
        let loss = g.cross_entropy(h, head, classes)?;
        Ok((g, loss))
    };
    build().expect("a model that fits")
}

/// A block of two linears with a GELU between them, four times wider inside.
pub fn block(g: &mut Graph, h: Tensor) -> Result<Tensor, Error> {
    let inner = g.dense("up", h, 4 * WIDTH)?;
    let inner = g.gelu(inner)?;
    let out = g.dense("down", inner, WIDTH)?;
    g.gelu(out)
}

/// A chain of so many blocks, each a region.
pub fn chain(blocks: usize) -> (Graph, Tensor) {
    classifier(|g, x| (0..blocks).try_fold(x, |h, i| g.checkpoint(&format!("layers.{i}"), |g| block(g, h))))
}

/// Fills the inputs of [`classifier`].
pub fn feed(step: &mut Step) {
    let x: Vec<f32> = (0..ROWS * WIDTH).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let classes: Vec<i32> = (0..ROWS as i32).map(|row| row % 3).collect();
    step.set_input("x", &x).expect("x fits");
    step.set_input("classes", &classes).expect("classes fit");
}

/// Compiled and fed, on one thread.
pub fn started((graph, loss): (Graph, Tensor), policy: CheckpointPolicy) -> Step {
    let mut step = graph.compile(loss, Options::new().policy(policy).threads(1).seed(7)).expect("compiles");
    feed(&mut step);
    step
}

/// The bits of loss and of all parameter gradients after one run.
pub fn bits(step: &mut Step) -> Vec<u32> {
    let loss = step.run().expect("runs");
    assert!(loss.is_finite());
    let names: Vec<String> = step.parameter_names().iter().map(|name| name.to_string()).collect();
    let gradients = names.iter().flat_map(|name| step.gradient(name).expect("a trained parameter"));
    let bits: Vec<u32> = std::iter::once(loss).chain(gradients).map(f32::to_bits).collect();
    assert!(bits.iter().skip(1).any(|&bits| f32::from_bits(bits) != 0.0), "some gradient is not zero");
    step.zero_gradients().expect("gradients exist");
    bits
}

/// Every named policy that a graph with regions accepts.
pub fn policies() -> Vec<CheckpointPolicy> {
    vec![
        CheckpointPolicy::none(),
        CheckpointPolicy::full(),
        CheckpointPolicy::every(1),
        CheckpointPolicy::every(2),
        CheckpointPolicy::every(3),
        CheckpointPolicy::auto(),
        CheckpointPolicy::budget(1 << 30),
        CheckpointPolicy::dots_saveable(),
        CheckpointPolicy::dots_with_no_batch_dims_saveable(),
        CheckpointPolicy::save_only_these_ops(["linear"]),
        CheckpointPolicy::predicate(|value| match value.op {
            "gelu" => Decision::PreferRecompute,
            _ => Decision::PreferSave,
        }),
    ]
}

/// Asserts that a model gives the same bits under every policy, and some policy recomputes.
pub fn assert_same_under_every_policy(model: impl Fn() -> (Graph, Tensor)) {
    let expected = bits(&mut started(model(), CheckpointPolicy::none()));
    let mut recomputed = 0;
    for policy in policies() {
        let mut step = started(model(), policy.clone());
        recomputed += runs_again(&step);
        assert!(bits(&mut step) == expected, "{policy}");
    }
    assert!(recomputed > 0, "some policy recomputes");
}

/// Recomputed ops of one step.
pub fn runs_again(step: &Step) -> usize {
    step.op_runs().values().map(|runs| runs.recomputed).sum()
}
