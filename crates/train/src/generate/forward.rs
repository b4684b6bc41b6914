//! What generation and evaluation share: the method that a model is run with, and whether plans fit the machine.
//!
//! Invariant: a plan that does not fit is refused before anything is allocated.

use crate::TrainError;
use remat_ir::Graph;
use remat_model::{CacheShape, Method, Model};
use remat_plan::{Device, Plan};
use remat_step::{DeviceOptions, LoadedForward};
use std::path::Path;

/// The method whose parameters a model is run with: an adapter's, or none for the base alone.
pub(crate) fn method(model: &Model, adapter: Option<&Path>) -> Result<Option<Method>, TrainError> {
    Ok(adapter.map(|folder| model.adapter_settings(folder)).transpose()?.map(|settings| Method::Lora(settings.config)))
}

/// Refuses plans that device or machine have no memory for, or whose weights are not in the model's files.
pub(crate) fn check(model: &Model, plans: &[Plan], options: DeviceOptions) -> Result<(), TrainError> {
    let profile = options.profile();
    let needed_bytes = (LoadedForward::bytes(plans) + profile.executor_bytes) as u64;
    let available_bytes = match profile.own_memory_bytes {
        Some(bytes) => Some(bytes as u64),
        None => crate::plan::available::available_bytes(),
    };
    if let Some(available_bytes) = available_bytes.filter(|&bytes| needed_bytes > bytes) {
        return Err(TrainError::ForwardDoesNotFit { needed_bytes, available_bytes });
    }
    Ok(plans.iter().try_for_each(|plan| model.check_weights(&plan.graph))?)
}

/// Loads the plans of generation, prefill and decode, with base, adapter and empty caches.
pub(crate) fn load_cached(
    model: &Model,
    adapter: Option<&Path>,
    method: Option<&Method>,
    shape: CacheShape,
    options: DeviceOptions,
) -> Result<LoadedForward, TrainError> {
    let graphs = model.generation(method, shape)?;
    let profile = options.profile();
    // Both have the same weights; that of one token has the head, too.
    let whole = graphs.decode.clone();
    let plans = [graphs.prefill, graphs.decode].map(|graph| LoadedForward::plan(graph, &profile));
    let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?;
    check(model, &plans, options)?;
    let mut loaded = LoadedForward::load(plans, options)?;
    fill(model, adapter, &whole, loaded.device_mut())?;
    Ok(loaded)
}

/// Fills in base and adapter.
pub(crate) fn fill(
    model: &Model,
    adapter: Option<&Path>,
    graph: &Graph,
    device: &mut dyn Device,
) -> Result<(), TrainError> {
    model.load_weights(graph, device)?;
    if let Some(folder) = adapter {
        model.load_adapter_of(folder, graph, device)?;
    }
    Ok(())
}
