//! Runs one plan on a device and collects outputs and final states as bytes, so that comparisons are bitwise.

use remat_ir::{Array, Graph, Storage, Training, Type};
use remat_plan::{Device, DeviceError, Plan};
use remat_step::TrainingStep;
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

/// Forward and backward of a model's training graph.
///
/// # Panics
/// A graph that cannot be differentiated.
pub fn with_backward(training: Training) -> Graph {
    TrainingStep::new(training, None).expect("differentiable").graph
}

/// Fills every source of a loaded graph.
///
/// # Errors
/// A source that the device does not have.
pub fn fill_sources(
    device: &mut dyn Device,
    graph: &Graph,
    sources: &HashMap<String, Array>,
) -> Result<(), DeviceError> {
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let source = device.known(value.storage, &value.name)?;
        if device.is_in_file(source) {
            continue;
        }
        device.write_all(source, sources[&value.name].to_host(&value.ty).as_bytes())?;
    }
    Ok(())
}

/// Loads `plan` into a fresh device, fills every source, runs once.
///
/// # Errors
/// Whatever the device refuses.
pub fn run_plan(
    device: &mut dyn Device,
    plan: Plan,
    sources: &HashMap<String, Array>,
) -> Result<RunResult, DeviceError> {
    let graph: Graph = Graph::clone(&plan.graph);
    let program = device.load(vec![plan])?[0];
    fill_sources(device, &graph, sources)?;
    device.run(program)?;
    let mut bytes = BTreeMap::new();
    for &output in &graph.outputs {
        let value = graph.value(output);
        let mut read = vec![0; value.ty.bytes()];
        device.read_output(program, &value.name, 0, &mut read)?;
        bytes.insert(value.name.clone(), read);
    }
    for value in graph.values.iter().filter(|v| v.producer.is_none() && v.storage == Storage::State) {
        bytes.insert(value.name.clone(), device.read_all(device.known(Storage::State, &value.name)?)?);
    }
    Ok(RunResult { bytes })
}
