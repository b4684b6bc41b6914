//! Plans without backward on an executor of their own: what generation and evaluation share.
//!
//! Invariant: a plan that does not fit is refused before anything is allocated.

use crate::TrainError;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_model::{Method, Model};
use remat_plan::{Executor, Plan, ProgramId};
use remat_tensor::DType;
use std::collections::HashMap;
use std::path::Path;

/// The method whose parameters a model is run with: an adapter's, or none for the base alone.
pub(crate) fn method(model: &Model, adapter: Option<&Path>) -> Result<Option<Method>, TrainError> {
    Ok(adapter.map(|folder| model.adapter_settings(folder)).transpose()?.map(Method::Lora))
}

/// Allocates what the plans need and fills in base and adapter.
pub(crate) fn load(
    model: &Model,
    adapter: Option<&Path>,
    plans: Vec<Plan>,
    options: CpuOptions,
) -> Result<(CpuExecutor, Vec<ProgramId>), TrainError> {
    let needed_bytes = (bytes(&plans) + options.profile().executor_bytes) as u64;
    if let Some(available_bytes) = crate::available::available_bytes()
        && needed_bytes > available_bytes
    {
        return Err(TrainError::ForwardDoesNotFit { needed_bytes, available_bytes });
    }
    let graphs: Vec<_> = plans.iter().map(|plan| plan.graph.clone()).collect();
    for graph in &graphs {
        model.check_weights(graph)?;
    }
    let mut executor = CpuExecutor::new(options);
    let programs = executor.load(plans)?;
    // All plans have the same weights; the last has the head, too.
    if let Some(graph) = graphs.last() {
        model.load_weights(graph, &mut executor)?;
        if let Some(folder) = adapter {
            model.load_adapter_of(folder, graph, &mut executor)?;
        }
    }
    Ok((executor, programs))
}

/// Arena and sources of plans that share both.
fn bytes(plans: &[Plan]) -> usize {
    let sources = plans.iter().flat_map(|plan| &plan.graph.values).filter(|value| value.producer.is_none());
    let by_name: HashMap<&str, usize> = sources.map(|value| (value.name.as_str(), value.ty.bytes())).collect();
    by_name.values().sum::<usize>() + plans.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0)
}

/// Writes an input.
pub(crate) fn fill<T: bytemuck::NoUninit>(
    executor: &mut dyn Executor,
    name: &str,
    elements: &[T],
) -> Result<(), TrainError> {
    executor.input_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
    Ok(())
}

/// An f32 output. Executors align tensors to at least 64 bytes.
pub(crate) fn floats<'a>(executor: &'a dyn Executor, program: ProgramId, name: &str) -> Result<&'a [f32], TrainError> {
    let output = executor.output(program, name)?;
    assert_eq!(output.ty.dtype, DType::F32, "output {name} of an f32 graph");
    Ok(bytemuck::cast_slice(output.bytes))
}
