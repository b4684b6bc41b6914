//! One model compiled more than once: graphs that are cloned, and parameters that go from a training step to another.

use crate::models::{ROWS, WIDTH, bits, block, chain, feed, started};
use remat::{AdamWSettings, CheckpointPolicy, DType, Error, Graph, Init, Options};

#[test]
fn clones_compile_to_the_same_bits_and_go_their_own_ways() {
    let (graph, loss) = chain(3);
    let copy = graph.clone();
    let expected = bits(&mut started((graph, loss), CheckpointPolicy::none()));
    let mut another = copy.clone();
    assert!(bits(&mut started((copy, loss), CheckpointPolicy::full())) == expected);
    // What a clone makes is its own: the same number of a value in another graph is another value.
    let (mut other, _) = chain(3);
    let more = another.scale(loss, 2.0).expect("an inherited tensor");
    assert!(matches!(other.scale(more, 2.0), Err(Error::ForeignTensor { .. })));
    let third = another.clone();
    let mut fourth = another.clone();
    let of_fourth = fourth.scale(more, 0.5).expect("inherited, too");
    assert!(matches!(third.name(of_fourth), Err(Error::ForeignTensor { .. })));
    assert!(matches!(another.name(of_fourth), Err(Error::ForeignTensor { .. })));
    assert!(bits(&mut started((fourth, of_fourth), CheckpointPolicy::none())) == expected, "twice a half");
}

#[test]
fn evaluation_runs_with_what_training_has_learnt() {
    let build = |g: &mut Graph| -> Result<(remat::Tensor, remat::Tensor), Error> {
        let x = g.input("x", DType::F32, &[ROWS, WIDTH])?;
        let scale = g.frozen("scale", &[WIDTH], Init::Uniform(1.0))?;
        let h = g.rms_norm(x, scale, 1e-5)?;
        let h = g.checkpoint("block", |g| block(g, h))?;
        let classes = g.input("classes", DType::I32, &[ROWS])?;
        let head = g.parameter("head", &[3, WIDTH], Init::Normal(0.3))?;
        Ok((h, g.cross_entropy(h, head, classes)?))
    };
    let mut g = Graph::new();
    let (h, loss) = build(&mut g).expect("fits");
    let mut forward = g.clone();
    forward.output(h).expect("inherited");
    forward.output(loss).expect("inherited");
    let name = forward.name(loss).expect("inherited").to_string();
    let options = || Options::new().threads(1).seed(5);
    let mut step = g.compile(loss, options().adamw(AdamWSettings::default())).expect("compiles");
    let mut evaluation = forward.compile_forward(options().seed(99)).expect("compiles");
    [&mut step, &mut evaluation].into_iter().for_each(feed);
    for _ in 0..3 {
        step.run().expect("runs");
        step.update(1e-2).expect("updates");
    }
    evaluation.run_forward().expect("runs");
    let expected = step.run().expect("runs");
    assert_ne!(evaluation.output(&name).expect("an output"), [expected], "another seed");
    // Two linears with their biases, the head and the frozen scale.
    assert_eq!(evaluation.copy_parameters_from(&step).expect("of the same types"), 6);
    evaluation.run_forward().expect("runs");
    assert_eq!(evaluation.output(&name).expect("an output"), [expected]);
    let (wider, loss) = crate::models::classifier(|g, x| {
        let scale = g.parameter("scale", &[1, WIDTH], Init::Ones)?;
        let x = g.matmul(x, scale).or_else(|_| g.linear(x, scale, None))?;
        g.dense("out", x, WIDTH)
    });
    let mut other = wider.compile(loss, options()).expect("compiles");
    let refused = other.copy_parameters_from(&step).expect_err("another shape").to_string();
    assert!(refused.contains("parameter \"scale\" is f32[1, 16]; f32[16] was given"), "{refused}");
}
