//! Convolutions and norms of channels: three steps of training, and evaluation after them.

use crate::reference::Reference;
use remat::modules::{BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, GroupNorm, Linear};
use remat::{
    BatchNormOptions, CheckpointPolicy, Clip, ConvOptions, DType, Error, Graph, Optimizer, Options, SgdSettings, Step,
    Tensor,
};

/// The names of its outputs are one in training and evaluation.
fn network(mut g: Graph) -> Result<(Graph, Tensor), Error> {
    let x = g.input("x", DType::F32, &[4, 3, 7, 8])?;
    let plain = ConvOptions::default();
    let halving = ConvOptions { stride: [2, 1], padding: [1, 0], ..plain };
    let conv = Conv2d::new(&mut g, "conv", [3, 4], [3, 2], halving, true)?;
    let bn = BatchNorm2d::new(&mut g, "bn", 4, BatchNormOptions::default())?;
    let wide = ConvOptions { dilation: [1, 2], groups: 2, ..plain };
    let grouped = Conv2d::new(&mut g, "grouped", [4, 6], [2, 3], wide, false)?;
    let gn = GroupNorm::new(&mut g, "gn", 3, 6, 1e-3)?;
    let along = ConvOptions { stride: [1, 2], padding: [0, 1], dilation: [1, 2], ..plain };
    let along = Conv1d::new(&mut g, "along", [6, 5], 3, along, true)?;
    let quick = BatchNormOptions { momentum: 0.3, eps: 1e-4, ..BatchNormOptions::default() };
    let bn1 = BatchNorm1d::new(&mut g, "bn1", 5, quick)?;
    let fc = Linear::new(&mut g, "fc", 5, 3, true)?;
    let bn_rows = BatchNorm1d::new(&mut g, "bn_rows", 3, BatchNormOptions::default())?;
    let h = g.checkpoint("first", |g| {
        let h = conv.forward(g, x)?;
        let h = bn.forward(g, h)?;
        g.relu(h)
    })?;
    let h = g.checkpoint("second", |g| {
        let h = grouped.forward(g, h)?;
        let h = gn.forward(g, h)?;
        g.flatten(h, 2, -1)
    })?;
    let h = g.checkpoint("third", |g| {
        let h = along.forward(g, h)?;
        let h = bn1.forward(g, h)?;
        g.mean_dim(h, &[2], false)
    })?;
    let h = fc.forward(&mut g, h)?;
    let y = bn_rows.forward(&mut g, h)?;
    g.output(y)?;
    Ok((g, y))
}

/// The network, trained by SGD on the sum of y·dy, with its evaluation beside it.
pub fn images(recomputed: bool) -> Result<Step, Error> {
    let (mut g, y) = network(Graph::new())?;
    let dy = g.input("dy", DType::F32, &[4, 3])?;
    let product = g.mul(y, dy)?;
    let loss = g.sum(product)?;
    let policy = if recomputed { CheckpointPolicy::full() } else { CheckpointPolicy::none() };
    let sgd = Optimizer::Sgd(SgdSettings::default());
    let options = Options::new().policy(policy).threads(if recomputed { 3 } else { 1 });
    g.compile(loss, options.optimizer(sgd).clip(Clip::None).evaluation(network(Graph::evaluation())?.0))
}

fn output(step: &Step) -> Vec<f32> {
    step.output("batch_norm.y").or_else(|_| step.output("batch_norm")).expect("an output")
}

#[test]
fn three_steps_and_an_evaluation_are_torchs() {
    let reference = Reference::open("images");
    let mut all = Vec::new();
    for recomputed in [false, true] {
        let mut step = images(recomputed).expect("compiles");
        reference.load_into(&mut step);
        step.set_input("dy", &reference.read("dy")).expect("fits");
        for at in 0..3 {
            step.set_input("x", &reference.read(&format!("x{at}"))).expect("fits");
            step.run().expect("runs");
            reference.assert_near(&output(&step), &format!("y.{at}"));
            if at == 0 {
                reference.assert_gradients_near(&step);
            }
            step.update(0.1).expect("updates");
        }
        for name in step.buffer_names() {
            reference.assert_near(&step.buffer(name).expect("a buffer"), &format!("after.{name}"));
        }
        for name in step.parameter_names() {
            reference.assert_near(&step.parameter(name).expect("a parameter"), &format!("after.{name}"));
        }
        step.set_input("x", &reference.read("x0")).expect("fits");
        step.evaluate().expect("runs");
        let y = step.evaluation_output("batch_norm").expect("an output");
        reference.assert_near(&y, "y.eval");
        all.push(y.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    }
    assert_eq!(all[0], all[1], "other bits with recomputation or threads");
}
