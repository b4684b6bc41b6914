//! Samples of ops as plans of one op, run on a device, and how far a result may be from the definition.

use crate::run::run_plan;
use remat_compiler::compile;
use remat_ir::{Array, Builder, Graph, Op, OpDef, Sample, Storage};
use remat_plan::{Device, DeviceError, Policy};
use remat_tensor::DType;
use std::collections::HashMap;

/// A graph of the sample's one op. Donated operands become states, quantised ones weights, everything else an input.
///
/// # Panics
/// A sample that is none.
pub fn graph_of(sample: &Sample) -> (Graph, HashMap<String, Array>) {
    let mut b = Builder::new();
    let donated: Vec<usize> = sample.op.donations().into_iter().map(|(operand, _)| operand).collect();
    let mut sources = HashMap::new();
    let mut operands = Vec::new();
    for (index, (ty, array)) in sample.types.iter().zip(&sample.inputs).enumerate() {
        let name = format!("operand{index}");
        sources.insert(name.clone(), array.clone());
        let state = donated.contains(&index);
        operands.push(match ty.dtype.quant_format() {
            Some(_) => b.weight(&name, ty.clone()),
            None if state => b.state(&name, ty.clone()),
            None => b.input(&name, ty.clone()),
        });
    }
    let results = b.op("op", sample.op.clone(), &operands).expect("a valid sample");
    for result in results {
        if b.graph().value(result).storage == Storage::Arena {
            b.output(result);
        }
    }
    (b.finish(), sources)
}

/// The results of a sample on a device.
///
/// # Errors
/// Whatever the device refuses.
///
/// # Panics
/// An op that does not compile.
pub fn run_sample(device: &mut dyn Device, sample: &Sample) -> Result<Vec<Array>, DeviceError> {
    let (graph, sources) = graph_of(sample);
    let plan = compile(graph.clone(), &Policy::None, &device.profile()).expect("one op compiles");
    let result = run_plan(device, plan, &sources)?;
    let of = |&id| result.array(&graph.value(graph.storage_root(id)).name, graph.ty(id));
    Ok(graph.nodes[0].outputs.iter().map(of).collect())
}

/// Every sample as it is, and with bf16 activations where the op takes them.
pub fn samples() -> impl Iterator<Item = Sample> {
    let both = |sample: Sample| [sample.with_activations(DType::BF16), Some(sample)];
    Op::samples().into_iter().flat_map(both).flatten()
}

/// How far a kernel may be from the definition: 64 roundings in f32 of the largest magnitude that enters any sum, which
/// is what the sum of absolute terms of the definition itself shows; and one rounding of each result to its dtype. A
/// kernel may hand a bf16 matrix product what it made itself (probabilities, cotangents of logits), rounded as the
/// operands are: that may cost as much again.
pub fn tolerance(sample: &Sample, want: &Array, result: DType) -> f64 {
    let magnitude = |array: &Array| array.data.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let inputs = sample
        .types
        .iter()
        .zip(&sample.inputs)
        .filter(|(ty, _)| ty.dtype.is_float() || ty.dtype.quant_format().is_some());
    let largest_input = inputs.map(|(_, array)| magnitude(array)).fold(1.0, f64::max);
    let terms = match &sample.op {
        op if op.is_contraction() => sample.types[0].shape.last().max(sample.types[0].shape.rows()) as f64,
        _ => 4.0,
    };
    let rounds_inside = matches!(
        sample.op,
        Op::Attention(_)
            | Op::AttentionGrad(_)
            | Op::MaskedAttention(_)
            | Op::MaskedAttentionGrad(_)
            | Op::LinearCrossEntropyGrad(_)
            | Op::LinearCrossEntropyWithGrad(_)
    );
    let inside = if rounds_inside && sample.types[0].dtype == DType::BF16 { DType::BF16.epsilon() } else { 0.0 };
    64.0 * f64::from(f32::EPSILON) * (magnitude(want) + largest_input * largest_input * terms.sqrt())
        + (result.epsilon() / 2.0 + inside) * magnitude(want)
}
