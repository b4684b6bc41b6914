//! What a graph means, by the f64 interpreter, and how far a device may be from it.

use crate::run::RunResult;
use remat_ir::{Array, Graph, Interpreter, Rounding, Storage, ValueId};
use std::collections::HashMap;

/// The interpreter's values of a graph.
#[derive(Debug, Clone)]
pub struct Definition {
    /// By value.
    pub values: Vec<Array>,
    /// How far a run may be from them: 2e-5 of the largest real number (token ids and the generator's words do not count), and 64
    /// times what one rounding per op, to the dtype of its result, does to this very model. A model that divides by almost
    /// nothing amplifies roundings, and tells so itself.
    pub tolerance: f64,
}

impl Definition {
    /// Of a graph with these sources.
    ///
    /// # Panics
    /// A source that is missing.
    pub fn of(graph: &Graph, sources: &HashMap<String, Array>) -> Self {
        let run = |rounding| Interpreter { rounding }.run(graph, sources).expect("all sources are given");
        let (values, rounded) = (run(Rounding::None), run(Rounding::ToDtype));
        let (mut scale, mut noise) = (1.0f64, 0.0f64);
        for ((value, x), y) in graph.values.iter().zip(&values).zip(&rounded) {
            for (x, y) in x.data.iter().zip(&y.data).filter(|_| value.ty.dtype.is_float()) {
                (scale, noise) = (scale.max(x.abs()), noise.max((x - y).abs()));
            }
        }
        Definition { values, tolerance: 2e-5 * scale + 64.0 * noise }
    }

    /// Whether there is anything to compare: beyond what f32 resolves there are only bits.
    pub fn resolves(&self) -> bool {
        self.tolerance <= 1e3
    }

    /// Holds a run's outputs and final states to it.
    ///
    /// # Errors
    /// The first number that is too far.
    pub fn check(&self, graph: &Graph, result: &RunResult) -> Result<(), String> {
        let is_last = |id: ValueId| !graph.values.iter().any(|value| value.donated_from == Some(id));
        let told = |&id: &ValueId| graph.value(id).storage == Storage::State || graph.outputs.contains(&id);
        for id in graph.value_ids().filter(told).filter(|&id| is_last(id)) {
            let (name, ty) = (&graph.value(graph.storage_root(id)).name, graph.ty(id));
            // Integers are what they are.
            let tolerance = if ty.dtype.is_float() { self.tolerance } else { 0.0 };
            let found = result.array(name, ty);
            for (at, (got, want)) in found.data.iter().zip(&self.values[id.index()].data).enumerate() {
                let near = (got - want).abs() <= tolerance;
                if !near {
                    return Err(format!("{name}[{at}]: {got}, not {want}, by more than {tolerance:e}"));
                }
            }
        }
        Ok(())
    }
}
