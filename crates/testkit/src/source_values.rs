//! Values for a graph's sources: random numbers for parameters, valid ids, positions and segments for the inputs.

use remat_ir::{Array, Graph, SourceRole, Value};
use remat_tensor::{DType, Philox, stream_of_name};
use std::collections::HashMap;

/// One array per source value of `graph`, by name. Gradient and moment states start at zero; `*.inv_freq` and norm
/// weights are positive.
pub fn source_values(graph: &Graph, seed: u64) -> HashMap<String, Array> {
    let sources = graph.values.iter().filter(|value| value.producer.is_none());
    sources.map(|value| (value.name.clone(), array(value, seed))).collect()
}

fn array(value: &Value, seed: u64) -> Array {
    let (name, shape) = (value.name.as_str(), &value.ty.shape);
    let philox = Philox::new(seed, stream_of_name(name));
    let width = shape.last().max(1) as u64;
    let element = |i: u64| -> f64 {
        match name {
            "ids" => f64::from(philox.word(i) % 11),
            // About one target in five is masked.
            "targets" if philox.word(i).is_multiple_of(5) => -100.0,
            "targets" => f64::from(philox.word(i) % 11),
            "positions" => (i % width) as f64,
            "segment_start" => 0.0,
            "dloss" => 0.125,
            "lr" => f64::from(1e-3_f32),
            "step" => 1.0,
            _ if value.ty.dtype == DType::U32 => f64::from(philox.word(i)),
            _ if is_zero_at_first(value.role) => 0.0,
            _ if shape.len() == 1 => f64::from(1.0 + 0.2 * philox.normal(i)),
            _ => f64::from(0.5 * philox.normal(i)),
        }
    };
    let n = shape.numel() as u64;
    Array::new(shape.clone(), (0..n).map(element).collect())
}

/// Whether it is a gradient or a moment.
fn is_zero_at_first(role: Option<SourceRole>) -> bool {
    match role {
        Some(SourceRole::Parameter(_, state)) => state.is_gradient() || state.is_moment(),
        _ => false,
    }
}
