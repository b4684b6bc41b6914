//! Norms of tensors with channels, and the running statistics of batch norm.

use crate::case::check;
use remat::{BatchNormOptions, CheckpointPolicy, DType, Error, Graph, Init, Options, Step, Tensor};

#[test]
fn norms_match_pytorch() {
    check("norms", |g, case, x| {
        let parameters = [x[1], x[2]];
        Ok(vec![match case {
            "group_norm" => g.group_norm(x[0], 2, parameters, 1e-5)?,
            "group_norm_one" => g.group_norm(x[0], 1, parameters, 1e-3)?,
            "instance_norm" => g.instance_norm(x[0], parameters, 1e-5)?,
            "batch_norm" | "batch_norm_rows" => {
                let channels = g.ty(x[1])?.shape.to_vec();
                let running = [g.buffer("mean", &channels, Init::Zeros)?, g.buffer("variance", &channels, Init::Ones)?];
                g.batch_norm(x[0], parameters, running, BatchNormOptions::default())?
            }
            "batch_norm_evaluation" => {
                let options = BatchNormOptions { training: Some(false), ..BatchNormOptions::default() };
                g.batch_norm(x[0], parameters, [x[3], x[4]], options)?
            }
            other => panic!("no such case: {other}"),
        }])
    });
}

/// Two channels, three rows.
fn model(training: bool) -> Result<(Graph, Tensor), Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[3, 2])?;
    let y = g.checkpoint("norm", |g| {
        let parameters = [g.parameter("weight", &[2], Init::Ones)?, g.parameter("bias", &[2], Init::Zeros)?];
        let running = [g.buffer("mean", &[2], Init::Zeros)?, g.buffer("variance", &[2], Init::Ones)?];
        let options = BatchNormOptions { training: Some(training), momentum: 0.3, ..BatchNormOptions::default() };
        let y = g.batch_norm(x, parameters, running, options)?;
        g.gelu(y)
    })?;
    Ok((g, y))
}

fn trained(policy: CheckpointPolicy, threads: usize) -> Result<Step, Error> {
    let (mut g, y) = model(true)?;
    let last = g.checkpoint("last", |g| g.dense("fc", y, 2))?;
    let loss = g.mean(last)?;
    g.compile(loss, Options::new().policy(policy).threads(threads))
}

const ROWS: [[f32; 6]; 2] = [[1.0, 2.0, 3.0, -1.0, 4.0, 0.5], [0.5, 2.0, -3.0, 1.0, 2.0, 7.0]];

/// What torch.nn.BatchNorm1d(2, momentum=0.3) has after each of the rows, and makes of the first in evaluation.
#[test]
fn running_statistics_follow_each_run_once_and_serve_evaluation() -> Result<(), Error> {
    let wanted = [[[0.8, 0.15], [1.4, 1.375]], [[0.51, 1.105], [2.955, 4.0625]]];
    let near = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-6);
    for (policy, threads) in [(CheckpointPolicy::none(), 1), (CheckpointPolicy::full(), 3)] {
        let mut step = trained(policy, threads)?;
        assert_eq!(step.buffer_names().collect::<Vec<_>>(), ["norm.mean", "norm.variance"]);
        for (rows, [mean, variance]) in ROWS.iter().zip(wanted) {
            step.set_input("x", rows)?;
            // A validation runs the step and leaves no trace.
            step.validate()?;
            step.run()?;
            let (got_mean, got_variance) = (step.buffer("norm.mean")?, step.buffer("norm.variance")?);
            assert!(near(&got_mean, &mean) && near(&got_variance, &variance), "{got_mean:?}, {got_variance:?}");
        }
        let (mut g, y) = model(false)?;
        g.output(y)?;
        let name = g.name(y)?.to_string();
        let mut evaluation = g.compile_forward(Options::new().threads(threads))?;
        assert_eq!(evaluation.copy_parameters_from(&step)?, 4);
        evaluation.set_input("x", &ROWS[0])?;
        evaluation.run_forward()?;
        let normed = [0.285_047_05, 0.444_043_8, 1.448_504_5, -1.044_371_2, 2.030_233_4, -0.300_163_75];
        let gelu = |x: f32| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh());
        assert!(near(&evaluation.output(&name)?, &normed.map(gelu)), "{:?}", evaluation.output(&name)?);
        assert_eq!(evaluation.buffer("norm.mean")?, step.buffer("norm.mean")?, "evaluation changes no buffer");
    }
    Ok(())
}

#[test]
fn running_statistics_that_are_no_buffers_are_refused_in_training() -> Result<(), Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[3, 2])?;
    let [w, b, mean, variance] = ["w", "b", "mean", "variance"].map(|name| g.frozen(name, &[2], Init::Ones));
    let (parameters, running) = ([w?, b?], [mean?, variance?]);
    let error = g.batch_norm(x, parameters, running, BatchNormOptions::default()).expect_err("no buffers").to_string();
    assert!(error.contains("\"mean\" is not a buffer: make running statistics with Graph::buffer"), "{error}");
    let evaluation = BatchNormOptions { training: Some(false), ..BatchNormOptions::default() };
    g.batch_norm(x, parameters, running, evaluation)?;
    Ok(())
}
