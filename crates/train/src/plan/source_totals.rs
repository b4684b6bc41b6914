//! Bytes of weights, states and inputs by what they are for.
//!
//! Nothing writes gradients, moments and the second matrices of fresh adapters at load; devices whose pages are resident
//! from their first use keep them apart from what is written (`remat_ir::FirstWrite`). Invariant: a source that several
//! plans name counts once.

use remat_ir::{FirstWrite, Graph, SourceRole, StateRole, Storage, Value};
use std::collections::HashSet;

/// Where a source may begin.
const ALIGNMENT_BYTES: usize = 64;

/// Bytes of sources.
#[derive(Default)]
pub(crate) struct SourceTotals {
    pub(crate) weights: usize,
    pub(crate) quantised: usize,
    pub(crate) quantised_elements: usize,
    /// Without the rounding.
    pub(crate) quantised_exactly: usize,
    pub(crate) parameters: usize,
    pub(crate) gradients: usize,
    /// Those of one micro-batch alone, without rounding.
    pub(crate) gradients_of_micro_batch: usize,
    pub(crate) moments: usize,
    /// Keys and values of generation.
    pub(crate) caches: usize,
    pub(crate) inputs: usize,
    pub(crate) has_adapters: bool,
    /// Masters of adapters' second matrices: zero until the first update.
    pub(crate) zero_at_first: usize,
}

impl SourceTotals {
    /// Of the sources of some graphs, in the order in which their plans are loaded.
    pub(crate) fn of(graphs: &[&Graph]) -> Self {
        let mut totals = SourceTotals::default();
        let mut seen = HashSet::new();
        for value in graphs.iter().flat_map(|graph| &graph.values).filter(|value| value.producer.is_none()) {
            if seen.insert(value.name.as_str()) {
                totals.count(value);
            }
        }
        totals
    }

    /// All of them together.
    pub(crate) fn bytes(&self) -> usize {
        let of_weights = self.weights + self.quantised;
        of_weights + self.parameters + self.gradients + self.moments + self.caches + self.inputs
    }

    fn count(&mut self, value: &Value) {
        let bytes = value.ty.bytes().next_multiple_of(ALIGNMENT_BYTES);
        let is_quantised = value.ty.dtype.quant_format().is_some();
        if is_quantised {
            self.quantised_elements += value.ty.shape.numel();
            self.quantised_exactly += value.ty.bytes();
        }
        let first_write = value.role.map_or(FirstWrite::Load, SourceRole::first_write);
        let total = match value.storage {
            Storage::Weight if is_quantised => &mut self.quantised,
            Storage::Weight => &mut self.weights,
            Storage::State => match first_write {
                FirstWrite::Step => &mut self.gradients,
                FirstWrite::Sample => &mut self.caches,
                FirstWrite::Resume => &mut self.moments,
                FirstWrite::Load | FirstWrite::Adapter => &mut self.parameters,
            },
            Storage::Input | Storage::Arena => &mut self.inputs,
        };
        *total += bytes;
        if let Some(SourceRole::Parameter(_, StateRole::Gradient)) = value.role {
            self.gradients_of_micro_batch += value.ty.bytes();
        }
        if value.storage == Storage::State {
            self.has_adapters |= value.role.is_some_and(SourceRole::is_adapter_parameter);
            self.zero_at_first += if first_write == FirstWrite::Adapter { bytes } else { 0 };
        }
    }
}
