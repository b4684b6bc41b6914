//! Every op's samples on the emulated card: recipe, device, driver and PTX against the naive f64 definition.

use remat_cuda::CudaDevice;
use remat_ir::{Array, Op, OpDef, Sample};
use remat_plan::{Device, DeviceError};
use remat_testkit::EmulatedCard;
use remat_testkit::op_samples::{run_sample, samples, tolerance};
use std::collections::BTreeSet;
use std::rc::Rc;

fn run(sample: &Sample, seed: u64) -> Result<(Vec<Array>, u64), DeviceError> {
    let card = Rc::new(EmulatedCard::new(seed));
    let mut device = CudaDevice::new(card.clone());
    device.set_poison(true);
    let results = run_sample(&mut device, sample)?;
    drop(device);
    assert_eq!(card.held_bytes(), 0, "memory of the card goes back");
    Ok((results, card.instructions()))
}

/// What a sample takes, in operations of its definition.
fn flops(sample: &Sample) -> f64 {
    let types: Vec<_> = sample.types.iter().collect();
    let results = sample.op.infer(&types).expect("a valid sample");
    sample.op.cost(&types, &results.iter().collect::<Vec<_>>()).flops
}

/// More than this is for `cargo xtask ptx-soak`.
const LIGHT_FLOPS: f64 = 2e4;

/// Ops that no model family, adapter or optimizer of one process uses and that have no kernel.
const WITHOUT: [&str; 21] = [
    "add_parts",
    "batch_norm",
    "batch_norm_dw",
    "batch_norm_grad",
    "batch_norm_update",
    "conv2d",
    "conv2d_dw",
    "conv2d_dx",
    "exchange_shards",
    "gather_shards",
    "group_norm",
    "group_norm_dw",
    "group_norm_grad",
    "masked_attention",
    "masked_attention_grad",
    "norm_of_squares",
    "pair_loss",
    "pair_loss_grad",
    "pool2d",
    "pool2d_grad",
    "square_sums",
];

/// Holds samples to the definition; gives the ops among them. `REMAT_OP` picks one.
fn hold(wanted: impl Fn(&Sample) -> bool) -> BTreeSet<&'static str> {
    let only = std::env::var("REMAT_OP").ok();
    let (mut covered, mut instructions) = (BTreeSet::new(), 0);
    let chosen = |sample: &Sample| only.as_deref().is_none_or(|only| only == sample.op.name()) && wanted(sample);
    for (index, sample) in samples().enumerate().filter(|(_, sample)| chosen(sample)) {
        let op = sample.op.name();
        let (results, count) = match run(&sample, index as u64) {
            Ok(run) => run,
            Err(DeviceError::Unsupported { what, .. }) if WITHOUT.contains(&op) => {
                assert_eq!(what, op, "it is refused by its name");
                continue;
            }
            // Parts are of ranks, which train on CPUs.
            Err(DeviceError::Unsupported { why, .. }) if why.contains("part of a parameter") => continue,
            Err(error) => panic!("{op}: {error}\n{sample:?}"),
        };
        instructions += count;
        covered.insert(op);
        let types = sample.op.infer(&sample.types.iter().collect::<Vec<_>>()).expect("a valid sample");
        for (index, (got, want)) in results.iter().zip(&sample.eval()).enumerate() {
            let bound = tolerance(&sample, want, types[index].dtype);
            for (at, (&x, &y)) in got.data.iter().zip(&want.data).enumerate() {
                let near = (x - y).abs() <= bound || (x.is_nan() && y.is_nan());
                assert!(near, "{op}: result {index}[{at}] is {x}, not {y} (bound {bound:e})\n{sample:?}");
            }
        }
    }
    println!("{} ops, {instructions} thread instructions", covered.len());
    covered
}

#[test]
fn every_op_with_a_kernel_matches_its_definition() {
    let covered = hold(|sample| flops(sample) <= LIGHT_FLOPS);
    let all: BTreeSet<&str> = Op::NAMES.iter().copied().collect();
    let with = all.iter().copied().filter(|op| !WITHOUT.contains(op)).collect();
    assert!(std::env::var_os("REMAT_OP").is_some() || covered == with, "{covered:?}");
}

#[test]
#[ignore = "a minute: cargo xtask ptx-soak"]
fn large_samples_match_their_definition() {
    hold(|sample| flops(sample) > LIGHT_FLOPS);
}
