//! Runs one plan on an executor and collects outputs and final states as bytes, so that comparisons are bitwise.

use remat_ir::{Array, Graph, Storage, Type};
use remat_plan::{ExecError, Executor, Plan};
use remat_tensor::HostTensor;
use std::collections::{BTreeMap, HashMap};

/// What one run computed: outputs and final states, by the name of the *source* state for states.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// Little-endian bytes by name.
    pub bytes: BTreeMap<String, Vec<u8>>,
}

impl RunResult {
    /// One result, widened.
    pub fn array(&self, name: &str, ty: &Type) -> Array {
        let tensor = HostTensor::from_le_bytes(ty.shape.clone(), ty.dtype, &self.bytes[name]);
        Array::from_host(&tensor.expect("as many bytes as the type says"))
    }

    /// One f32 result.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes[name])
    }
}

/// Loads `plan` into a fresh executor, fills every source, runs once.
///
/// # Errors
/// Whatever the executor refuses.
pub fn run_plan(
    executor: &mut dyn Executor,
    plan: Plan,
    sources: &HashMap<String, Array>,
) -> Result<RunResult, ExecError> {
    let graph: Graph = plan.graph.clone();
    let program = executor.load(vec![plan])?[0];
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let tensor = sources[&value.name].to_host(&value.ty);
        let target = match value.storage {
            Storage::Weight => executor.weight_mut(&value.name)?,
            Storage::State => executor.state_mut(&value.name)?,
            Storage::Input => executor.input_mut(&value.name)?,
            Storage::Arena => unreachable!("arena values have producers"),
        };
        target.bytes.copy_from_slice(tensor.as_bytes());
    }
    executor.run(program)?;
    let mut bytes = BTreeMap::new();
    for &output in &graph.outputs {
        let name = &graph.value(output).name;
        bytes.insert(name.clone(), executor.output(program, name)?.bytes.to_vec());
    }
    for value in graph.values.iter().filter(|v| v.producer.is_none() && v.storage == Storage::State) {
        bytes.insert(value.name.clone(), executor.state(&value.name)?.bytes.to_vec());
    }
    Ok(RunResult { bytes })
}
