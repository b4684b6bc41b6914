//! The definition of a graph's meaning: every node's naive `eval`, in order, in f64.
//!
//! Slow on purpose. Kernels, compiler passes and plans are all held to it.

use crate::{Array, Graph, IrError, OpDef, ValueId};
use remat_tensor::HostTensor;
use std::collections::HashMap;

/// Whether results keep full f64 precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Exact f64 throughout: the mathematical reference.
    None,
    /// Each result is rounded to its value's dtype, as executors do at op outputs.
    ToDtype,
}

/// Evaluates graphs in f64.
#[derive(Debug, Clone, Copy)]
pub struct Interpreter {
    /// What happens at op outputs.
    pub rounding: Rounding,
}

impl Interpreter {
    /// An interpreter without rounding.
    pub fn exact() -> Self {
        Interpreter { rounding: Rounding::None }
    }

    /// Runs `graph`, which must pass `verify`, on the given source values and returns every value, indexed by
    /// [`ValueId`].
    ///
    /// # Errors
    /// A source value that is missing, or has another shape than the graph says.
    pub fn run(&self, graph: &Graph, sources: &HashMap<String, Array>) -> Result<Vec<Array>, IrError> {
        let mut env: Vec<Option<Array>> = vec![None; graph.values.len()];
        for (index, value) in graph.values.iter().enumerate().filter(|(_, v)| v.producer.is_none()) {
            let fail = |message: String| IrError::Source { name: value.name.clone(), message };
            let array = sources.get(&value.name).ok_or_else(|| fail("not given".to_string()))?;
            if array.shape != value.ty.shape {
                return Err(fail(format!("has shape {}, the graph expects {}", array.shape, value.ty.shape)));
            }
            env[index] = Some(array.clone());
        }
        for node in &graph.nodes {
            let get = |id: &ValueId| env[id.index()].as_ref().expect("nodes stand in execution order");
            let inputs: Vec<&Array> = node.inputs.iter().map(get).collect();
            let (_, result_types) = graph.node_types(node);
            let results = node.op.eval(&inputs, &result_types);
            for (&id, array) in node.outputs.iter().zip(results) {
                debug_assert_eq!(array.shape, graph.ty(id).shape, "{}: eval and infer disagree", node.name);
                env[id.index()] = Some(self.round(array, graph.ty(id).dtype));
            }
        }
        Ok(env.into_iter().map(|array| array.expect("every value has a source or a producer")).collect())
    }

    fn round(&self, array: Array, dtype: remat_tensor::DType) -> Array {
        match self.rounding {
            Rounding::None => array,
            Rounding::ToDtype => {
                let data = HostTensor::from_f64(array.shape.clone(), dtype, &array.data).to_f64();
                Array { shape: array.shape, data }
            }
        }
    }
}
