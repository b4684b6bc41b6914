//! Every op's samples on the emulated card: recipe, device, driver and PTX against the naive f64 definition.

use remat_cuda::{CudaDevice, OpTypes, dynamic_shared_bytes, launches};
use remat_ir::ops::{Attention, AttentionGrad};
use remat_ir::{Array, Op, OpDef, Sample};
use remat_plan::{Device, DeviceError};
use remat_tensor::DType;
use remat_testkit::EmulatedCard;
use remat_testkit::op_samples::{run_sample, samples, tolerance};
use std::collections::BTreeSet;
use std::rc::Rc;

fn run(sample: &Sample, seed: u64) -> Result<(Vec<Array>, Rc<EmulatedCard>), DeviceError> {
    let card = Rc::new(EmulatedCard::new(seed));
    let mut device = CudaDevice::new(card.clone());
    device.set_poison(true);
    let results = run_sample(&mut device, sample)?;
    drop(device);
    assert_eq!(card.held_bytes(), 0, "memory of the card goes back");
    Ok((results, card))
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
        let (results, card) = match run(&sample, index as u64) {
            Ok(run) => run,
            Err(DeviceError::Unsupported { what, .. }) if WITHOUT.contains(&op) => {
                assert_eq!(what, op, "it is refused by its name");
                continue;
            }
            // Parts are of ranks, which train on CPUs.
            Err(DeviceError::Unsupported { why, .. }) if why.contains("part of a parameter") => continue,
            Err(error) => panic!("{op}: {error}\n{sample:?}"),
        };
        instructions += card.instructions();
        covered.insert(op);
        check(&sample, &results);
    }
    println!("{} ops, {instructions} thread instructions", covered.len());
    covered
}

fn check(sample: &Sample, results: &[Array]) {
    let op = sample.op.name();
    let types = sample.op.infer(&sample.types.iter().collect::<Vec<_>>()).expect("a valid sample");
    for (index, (got, want)) in results.iter().zip(&sample.eval()).enumerate() {
        let bound = tolerance(sample, want, types[index].dtype);
        for (at, (&x, &y)) in got.data.iter().zip(&want.data).enumerate() {
            let near = (x - y).abs() <= bound || (x.is_nan() && y.is_nan());
            assert!(near, "{op}: result {index}[{at}] is {x}, not {y} (bound {bound:e})\n{sample:?}");
        }
    }
}

#[test]
fn every_op_with_a_kernel_matches_its_definition() {
    let covered = hold(|sample| flops(sample) <= LIGHT_FLOPS);
    let all: BTreeSet<&str> = Op::NAMES.iter().copied().collect();
    let with = all.iter().copied().filter(|op| !WITHOUT.contains(op)).collect();
    assert!(std::env::var_os("REMAT_OP").is_some() || covered == with, "{covered:?}");
}

#[test]
fn shared_memory_is_known_by_the_names_of_kernels() {
    let mut seen = 0;
    for sample in samples() {
        let types: Vec<_> = sample.types.iter().collect();
        let results = sample.op.infer(&types).expect("a valid sample");
        let call = OpTypes { reads: &types, writes: &results.iter().collect::<Vec<_>>() };
        let made = launches(&sample.op, &call).unwrap_or_default();
        // Kernels for heads of any size are told by heads of 128.
        for launch in made.iter().filter(|launch| !launch.kernel.starts_with("attention")) {
            let bytes = dynamic_shared_bytes(&launch.kernel);
            assert_eq!(launch.shared_bytes as usize, bytes, "{}", launch.kernel);
            seen += usize::from(bytes > 0);
        }
    }
    assert!(seen > 50, "{seen}");
}

/// Heads of other sizes than the samples have, with segments, a window and a soft cap.
#[test]
fn attention_of_larger_heads_matches_its_definition() {
    let plain = Attention { heads: 2, kv_heads: 1, scale: 0.2, window: None, softcap: None, dropout: 0.0, stream: 0 };
    for (size, tokens, op) in [
        (40, 70, Attention { window: Some(33), ..plain.clone() }),
        (68, 37, Attention { softcap: Some(2.5), ..plain.clone() }),
        (136, 35, plain),
    ] {
        let start = |i: usize| if i < tokens / 3 { 0 } else { (tokens / 3) as i32 };
        let forward = Sample::new(op.clone())
            .normal([1, tokens, 2 * size])
            .normal([1, tokens, size])
            .normal([1, tokens, size])
            .i32([1, tokens], (0..tokens).map(start).collect())
            .with_activations(DType::BF16)
            .expect("attention takes bf16");
        let results = forward.eval();
        let grad = Sample::new(AttentionGrad::of(&op)).normal([1, tokens, 2 * size]);
        let grad = (0..3).fold(grad, |sample, index| sample.operand(&forward, index));
        let grad = grad.array(&results[0]).array(&results[1]).operand(&forward, 3);
        let grad = grad.with_activations(DType::BF16).expect("takes bf16");
        let conflicts = held(&forward, size as u64) + held(&grad, size as u64);
        // Of heads that are whole chunks there are none.
        assert!(size % 8 > 0 || conflicts == 0, "{conflicts} bank conflicts with heads of {size}");
    }
}

/// Holds one sample to its definition; gives how often an access of shared memory waited for another's bank.
fn held(sample: &Sample, seed: u64) -> u64 {
    let (results, card) = run(sample, seed).unwrap_or_else(|error| panic!("{error}"));
    check(sample, &results);
    card.bank_conflicts()
}

#[test]
#[ignore = "a minute: cargo xtask ptx-soak"]
fn large_samples_match_their_definition() {
    hold(|sample| flops(sample) > LIGHT_FLOPS);
}
