//! A training loop that is interrupted, evaluated and switched: saved steps go on bit for bit, evaluation shares what training
//! holds, and a policy is switched without two arenas.

use remat::{
    AdamWSettings, CheckpointPolicy, DType, Error, Graph, Init, LionSettings, Optimizer, Options, SgdSettings, Step,
    Tensor,
};
use std::path::Path;

const ROWS: usize = 16;

/// Three blocks with dropout, of `width`; the same names in training and evaluation.
fn model(mut g: Graph, width: usize) -> Result<(Graph, Tensor), Error> {
    let x = g.input("x", DType::F32, &[ROWS, 8])?;
    let classes = g.input("classes", DType::I32, &[ROWS])?;
    let shift = g.frozen("shift", &[8], Init::Normal(0.1))?;
    let mut h = g.rms_norm(x, shift, 1e-5)?;
    for layer in 0..3 {
        h = g.checkpoint(&format!("layers.{layer}"), |g| {
            let up = g.dense("up", h, width)?;
            let up = g.gelu(up)?;
            let up = g.dropout(up, 0.25)?;
            let down = g.dense("down", up, 8)?;
            g.add(h, down)
        })?;
    }
    let head = g.parameter("head", &[4, 8], Init::Linear)?;
    let loss = g.cross_entropy(h, head, classes)?;
    Ok((g, loss))
}

fn compiled(optimizer: Option<Optimizer>, width: usize) -> Step {
    let (graph, loss) = model(Graph::new(), width).expect("a model");
    let options = Options::new().seed(3).policy(CheckpointPolicy::full()).threads(1);
    let options = optimizer.map_or(options.clone(), |optimizer| options.optimizer(optimizer));
    graph.compile(loss, options).expect("compiles")
}

fn feed(step: &mut Step, at: usize) {
    let x: Vec<f32> = (0..ROWS * 8).map(|i| ((i * 37 + at * 11) % 101) as f32 / 50.0 - 1.0).collect();
    let classes: Vec<i32> = (0..ROWS).map(|row| ((row + at) % 4) as i32).collect();
    step.set_input("x", &x).expect("fits");
    step.set_input("classes", &classes).expect("fits");
}

/// Micro-batches `from..to`, two of them an update; the bits of every loss and norm.
fn train(step: &mut Step, from: usize, to: usize) -> Vec<u32> {
    let mut bits = Vec::new();
    for at in from..to {
        feed(step, at);
        bits.push(step.run_scaled(0.5).expect("runs").to_bits());
        if at % 2 == 1 {
            bits.push(step.update(1e-2).expect("updates").to_bits());
        }
    }
    bits
}

fn parameters(step: &Step) -> Vec<u32> {
    let names: Vec<String> = step.parameter_names().into_iter().map(str::to_string).collect();
    names.iter().flat_map(|name| step.parameter(name).expect("a parameter")).map(f32::to_bits).collect()
}

fn adamw() -> Optimizer {
    Optimizer::AdamW(AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() })
}

#[test]
fn a_saved_step_goes_on_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.safetensors");
    let momentum = Optimizer::Sgd(SgdSettings { momentum: 0.9, ..SgdSettings::default() });
    for optimizer in [adamw(), momentum, Optimizer::Lion(LionSettings::default())] {
        let mut whole = compiled(Some(optimizer), 16);
        whole.set_weight("shift", &[0.75; 8]).expect("fits");
        let first = train(&mut whole, 0, 5);
        assert_eq!(first.len(), 7, "in the middle of an accumulation");
        whole.save(&path).expect("writes");
        let then = train(&mut whole, 5, 10);
        let mut resumed = compiled(Some(optimizer), 16);
        // Under another policy, and after it has gone elsewhere.
        resumed.set_policy(CheckpointPolicy::none()).expect("compiles");
        train(&mut resumed, 0, 3);
        resumed.load_state(&path).expect("fits");
        assert_eq!(resumed.random_key(), [3, 0, 2, 1]);
        assert_eq!(train(&mut resumed, 5, 10), then, "{}", optimizer.name());
        assert_eq!(parameters(&resumed), parameters(&whole), "{}", optimizer.name());
        assert_eq!(resumed.updates(), 5);
    }
}

fn refusal(step: &mut Step, path: &Path) -> String {
    let before = (parameters(step), step.random_key());
    let error = step.load_state(path).expect_err("refused").to_string();
    assert_eq!((parameters(step), step.random_key()), before, "the step is as it was");
    error.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&error).to_string()
}

#[test]
fn a_saved_step_of_another_graph_or_optimizer_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.safetensors");
    compiled(Some(adamw()), 16).save(&path).expect("writes");
    let wide = refusal(&mut compiled(Some(adamw()), 32), &path);
    assert_eq!(wide, "\"layers.0.down.weight\" is f32[8, 16] there and f32[8, 32] here: it is of another graph");
    let lion = refusal(&mut compiled(Some(Optimizer::Lion(LionSettings::default())), 16), &path);
    assert_eq!(lion, "was saved with the optimizer adamw, and this step has lion");
    let none = refusal(&mut compiled(None, 16), &path);
    assert_eq!(none, "was saved with the optimizer adamw, and this step has none");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/optimizers/updates.safetensors");
    assert_eq!(refusal(&mut compiled(None, 16), &fixture), "is no saved step: give a file that Step::save wrote");
    std::fs::write(&path, [0; 4]).expect("writes");
    assert!(refusal(&mut compiled(None, 16), &path).contains("not a valid safetensors file"));
}

#[test]
fn evaluation_shares_the_parameters_and_leaves_training_as_it_is() {
    let evaluation = || {
        let (mut g, loss) = model(Graph::evaluation(), 16).expect("a model");
        assert!(!g.is_training());
        g.output(loss).expect("an output");
        let name = g.name(loss).expect("a name").to_string();
        (g, name)
    };
    let (graph, loss) = model(Graph::new(), 16).expect("a model");
    let options = Options::new().optimizer(adamw()).seed(3).threads(1).policy(CheckpointPolicy::full());
    let (eval_graph, name) = evaluation();
    let mut step = graph.compile(loss, options.clone().evaluation(eval_graph)).expect("compiles");
    let mut alone = compiled(Some(adamw()), 16);
    assert_eq!(step.memory().state_bytes, alone.memory().state_bytes, "nothing is held twice");
    let mut separate = evaluation().0.compile_forward(Options::new().threads(1)).expect("compiles");
    let mut seen = Vec::new();
    for at in 0..4 {
        let bits = train(&mut step, at, at + 1);
        let (key, parameters_before) = (step.random_key(), parameters(&step));
        step.evaluate().expect("runs");
        seen.push(step.evaluation_output(&name).expect("an output"));
        step.evaluate().expect("runs");
        assert_eq!(Some(&step.evaluation_output(&name).expect("an output")), seen.last(), "no dropout");
        assert_eq!((step.random_key(), parameters(&step)), (key, parameters_before));
        separate.copy_parameters_from(&step).expect("the same names");
        feed(&mut separate, at);
        separate.run_forward().expect("runs");
        assert_eq!(Some(&separate.output(&name).expect("an output")), seen.last());
        assert_eq!(bits, train(&mut alone, at, at + 1), "training is as without evaluation");
        step.set_policy(if at % 2 == 0 { CheckpointPolicy::none() } else { CheckpointPolicy::full() })
            .expect("compiles");
    }
    assert!(seen[0] != seen[2], "updates are seen");
    let error = alone.evaluate().expect_err("none");
    assert_eq!(error.to_string(), "no evaluation here: compile with Options::evaluation");
    let (wider, _) =
        model(Graph::evaluation(), 32).map(|(mut g, loss)| (g.output(loss), g)).map(|(_, g)| (g, ())).expect("a model");
    let (graph, loss) = model(Graph::new(), 16).expect("a model");
    let error = graph.compile(loss, options.evaluation(wider)).expect_err("other shapes");
    assert_eq!(
        error.to_string(),
        "source \"layers.0.up.weight\" is a parameter f32[16, 8]; a parameter f32[32, 8] for evaluation was given"
    );
}

#[test]
fn the_random_key_decides_what_dropout_draws() {
    let mut step = compiled(Some(adamw()), 16);
    feed(&mut step, 0);
    let key = step.random_key();
    let first = step.run().expect("runs");
    assert_eq!(step.random_key(), [3, 0, 0, 1]);
    let second = step.run().expect("runs");
    step.set_random_key(key);
    assert_eq!(step.run().expect("runs").to_bits(), first.to_bits());
    assert_ne!(first.to_bits(), second.to_bits());
}
