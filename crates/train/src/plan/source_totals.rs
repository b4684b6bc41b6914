//! Bytes of weights, states and inputs by what they are for.
//!
//! Nothing writes gradients, moments and the second matrices of fresh adapters at load; devices whose pages are resident
//! from their first use keep them apart from what is written (`remat_ir::FirstWrite`). Invariant: a source that several
//! plans name counts once.

use remat_ir::{FirstWrite, Graph, SourceRole, Storage, Value};
use std::collections::HashSet;

/// Where a weight may begin in a file.
const BLOCK_BYTES: usize = 4096;

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
    pub(crate) moments: usize,
    /// Keys and values of generation.
    pub(crate) caches: usize,
    pub(crate) inputs: usize,
    pub(crate) has_adapters: bool,
    /// Weights that are off memory, as they lie in their file.
    pub(crate) weights_file: usize,
    /// States that are off memory, as they lie in theirs.
    pub(crate) states_file: usize,
    /// Masters of adapters' second matrices: zero until the first update.
    pub(crate) zero_at_first: usize,
}

impl SourceTotals {
    /// Of the sources of some graphs, in the order in which their plans are loaded, where each begins at a multiple of so many
    /// bytes.
    pub(crate) fn of(graphs: &[&Graph], alignment_bytes: usize) -> Self {
        SourceTotals::with_some_off_memory(graphs, alignment_bytes, &HashSet::new(), &HashSet::new())
    }

    /// The same where weights and states of the names `off` are not in memory, and of these weights the ones `in_files` in the
    /// model's files.
    pub(crate) fn with_some_off_memory(
        graphs: &[&Graph],
        alignment_bytes: usize,
        off: &HashSet<&str>,
        in_files: &HashSet<String>,
    ) -> Self {
        let mut totals = SourceTotals::default();
        let mut seen = HashSet::new();
        for value in graphs.iter().flat_map(|graph| &graph.values).filter(|value| value.producer.is_none()) {
            if seen.insert(value.name.as_str()) {
                let bytes_in_file = value.ty.bytes().next_multiple_of(BLOCK_BYTES);
                match (off.contains(value.name.as_str()), value.storage) {
                    (true, Storage::State) => totals.states_file += bytes_in_file,
                    (true, Storage::Weight) if in_files.contains(&value.name) => {}
                    (true, Storage::Weight) => totals.weights_file += bytes_in_file,
                    _ => totals.count(value, alignment_bytes),
                }
            }
        }
        totals
    }

    /// All of them together.
    pub(crate) fn bytes(&self) -> usize {
        let of_weights = self.weights + self.quantised;
        of_weights + self.parameters + self.gradients + self.moments + self.caches + self.inputs
    }

    fn count(&mut self, value: &Value, alignment_bytes: usize) {
        let bytes = value.ty.bytes().next_multiple_of(alignment_bytes);
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
        if value.storage == Storage::State {
            self.has_adapters |= value.role.is_some_and(SourceRole::is_adapter_parameter);
            self.zero_at_first += if first_write == FirstWrite::Adapter { bytes } else { 0 };
        }
    }
}
