//! Modules against torch.nn: names of parameters, outputs and gradients of a block, in `fixtures/modules`, which
//! `fixtures/modules.py` made; and their first values.

use remat::modules::{Dropout, Embedding, LayerNorm, Linear, MultiHeadAttention, RmsNorm};
use remat::{DType, Error, Graph, Options, Step};
use remat_formats::SafetensorsFile;
use std::path::Path;

const SHAPE: [usize; 2] = [2, 5];
const WIDTH: usize = 8;

fn block() -> Result<Step, Error> {
    let mut g = Graph::new();
    let ids = g.input("ids", DType::I32, &SHAPE)?;
    let segment_start = g.input("segment_start", DType::I32, &SHAPE)?;
    let embed = Embedding::new(&mut g, "embed", 11, WIDTH)?;
    let ln = LayerNorm::new(&mut g, "ln", WIDTH, 1e-5)?;
    let attn = MultiHeadAttention::new(&mut g, "attn", WIDTH, 2)?;
    let norm = RmsNorm::new(&mut g, "norm", WIDTH, f32::EPSILON)?;
    let fc = Linear::new(&mut g, "fc", WIDTH, WIDTH, true)?;
    let x = embed.forward(&mut g, ids)?;
    let h = ln.forward(&mut g, x)?;
    let h = attn.forward(&mut g, h, segment_start)?;
    let x = g.add(x, h)?;
    let h = norm.forward(&mut g, x)?;
    let h = fc.forward(&mut g, h)?;
    let h = g.gelu(h)?;
    let y = fc.forward(&mut g, h)?;
    g.output(y)?;
    let loss = g.sum(y)?;
    g.compile(loss, Options::new().threads(1))
}

fn read(file: &SafetensorsFile, name: &str) -> Vec<f32> {
    let mut numbers = vec![0.0; file.tensor_info(name).expect("a tensor").shape.numel()];
    file.read_as_f32_into(name, &mut numbers).expect("f32");
    numbers
}

fn assert_near(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * scale, "{name}: {found} instead of {expected}");
    }
}

#[test]
fn a_block_has_the_names_outputs_and_gradients_of_torchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/modules/block.safetensors");
    let file = SafetensorsFile::open(&path).expect("the fixture");
    let mut step = block().expect("compiles");
    let mut names: Vec<String> = step.parameter_names().into_iter().map(str::to_string).collect();
    names.sort();
    let mut theirs: Vec<&str> = file.names().filter_map(|name| name.strip_prefix("grad.")).collect();
    theirs.sort_unstable();
    assert_eq!(names, theirs);
    for name in &names {
        step.set_parameter(name, &read(&file, name)).expect("fits");
    }
    let ids: Vec<i32> = read(&file, "ids").into_iter().map(|id| id as i32).collect();
    step.set_input("ids", &ids).expect("fits");
    step.run().expect("runs");
    assert_near("y", &step.output("linear_4").expect("an output"), &read(&file, "y"));
    for name in &names {
        assert_near(name, &step.gradient(name).expect("a gradient"), &read(&file, &format!("grad.{name}")));
    }
}

#[test]
fn first_values_are_torchs() {
    let step = block().expect("compiles");
    let values = |name: &str| step.parameter(name).expect("a parameter");
    let most = |name: &str| values(name).iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let within = |name: &str, bound: f32| {
        let most = most(name);
        assert!(most <= bound && most > 0.6 * bound, "{name}: {most} of {bound}");
    };
    let root = (WIDTH as f32).sqrt();
    within("fc.weight", 1.0 / root);
    within("fc.bias", 1.0 / root);
    within("attn.in_proj_weight", (6.0 / 32.0_f32).sqrt());
    within("attn.out_proj.weight", 1.0 / root);
    for (name, all) in [
        ("attn.in_proj_bias", 0.0),
        ("attn.out_proj.bias", 0.0),
        ("ln.weight", 1.0),
        ("ln.bias", 0.0),
        ("norm.weight", 1.0),
    ] {
        assert!(values(name).iter().all(|&x| x == all), "{name}");
    }
    let squares = values("embed.weight").iter().map(|x| x * x).sum::<f32>() / 88.0;
    assert!((0.6..1.5).contains(&squares), "{squares}");
}

#[test]
fn what_a_module_cannot_be_is_refused() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[2, 8]).expect("an input");
    let error = MultiHeadAttention::new(&mut g, "attn", 8, 3).expect_err("3 heads of 8");
    assert_eq!(error.to_string(), "attention \"attn\": a width of 8 is not 3 heads of one size");
    Linear::new(&mut g, "fc", 8, 2, false).expect("a layer");
    assert!(Linear::new(&mut g, "fc", 8, 2, false).expect_err("twice").to_string().contains("exists already"));
    for mut g in [g, Graph::evaluation()] {
        let x = if g.is_training() { x } else { g.input("x", DType::F32, &[2, 8]).expect("an input") };
        assert!(Dropout { p: 1.0 }.forward(&mut g, x).is_err());
        let y = Dropout { p: 0.5 }.forward(&mut g, x).expect("dropout");
        assert_eq!(y == x, !g.is_training());
    }
}
