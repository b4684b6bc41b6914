//! Bytes of weights, states and inputs by what they are for, and which of their pages are resident before the first step.
//!
//! Sources of one kind lie one behind the other, as the executor lays them out. Nothing writes gradients, moments and the
//! second matrices of fresh adapters at load, but small ones share their pages with what is written. Invariant: a source
//! that several plans name counts once.

use remat_ir::{Graph, ParameterKind, SourceRole, StateRole, Storage, Value};
use std::collections::HashSet;

/// Where a source may begin.
const ALIGNMENT_BYTES: usize = 64;

/// What becomes resident as a whole.
const PAGE_BYTES: usize = 4096;

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
    /// Masters of adapters' second matrices: zero until the first update.
    pub(crate) zero_at_first: usize,
    states: Vec<State>,
}

/// What writes a state first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    AtLoad,
    /// At load if the adapter is read from a file.
    WithAdapter,
    AtResume,
    InStep,
    InSample,
}

struct State {
    bytes: usize,
    written: Written,
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
        let written = written(value.role);
        let total = match value.storage {
            Storage::Weight if is_quantised => &mut self.quantised,
            Storage::Weight => &mut self.weights,
            Storage::State => match written {
                Written::InStep => &mut self.gradients,
                Written::InSample => &mut self.caches,
                Written::AtResume => &mut self.moments,
                Written::AtLoad | Written::WithAdapter => &mut self.parameters,
            },
            Storage::Input | Storage::Arena => &mut self.inputs,
        };
        *total += bytes;
        if value.storage == Storage::State {
            self.has_adapters |= value.role.is_some_and(SourceRole::is_adapter_parameter);
            self.zero_at_first += if written == Written::WithAdapter { bytes } else { 0 };
            self.states.push(State { bytes, written });
        }
    }

    /// Bytes of states that nothing writes at load, in pages that something else is written to.
    pub(crate) fn shared_at_load(&self, adapter_is_read: bool) -> usize {
        self.shared(|state| match state.written {
            Written::AtLoad => true,
            Written::WithAdapter => adapter_is_read,
            Written::AtResume | Written::InStep | Written::InSample => false,
        })
    }

    /// The same of a run that goes on from a save.
    pub(crate) fn shared_at_resume(&self) -> usize {
        self.shared(|state| !matches!(state.written, Written::InStep | Written::InSample))
    }

    fn shared(&self, is_written: impl Fn(&State) -> bool) -> usize {
        let (mut at, mut pages, mut next_page, mut bytes) = (0, 0, 0, 0);
        for state in &self.states {
            let end = at + state.bytes;
            if is_written(state) && end > at {
                let first = (at / PAGE_BYTES).max(next_page);
                next_page = end.div_ceil(PAGE_BYTES);
                pages += next_page.saturating_sub(first);
                bytes += state.bytes;
            }
            at = end;
        }
        (pages * PAGE_BYTES).saturating_sub(bytes)
    }
}

fn written(role: Option<SourceRole>) -> Written {
    match role {
        Some(SourceRole::Parameter(_, StateRole::Gradient)) => Written::InStep,
        Some(SourceRole::Parameter(_, role)) if role.is_moment() => Written::AtResume,
        Some(SourceRole::Parameter(ParameterKind::AdapterB, StateRole::Value)) => Written::WithAdapter,
        Some(SourceRole::KvCache) => Written::InSample,
        _ => Written::AtLoad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_a_page_with_what_is_written_counts() {
        let state = |bytes, written| State { bytes, written };
        let totals = |states| SourceTotals { states, ..SourceTotals::default() };
        let far = totals(vec![state(8192, Written::AtLoad), state(8192, Written::InStep)]);
        assert_eq!((far.shared_at_load(false), far.shared_at_resume()), (0, 0));
        let near = totals(vec![
            state(1024, Written::AtLoad),
            state(1024, Written::InStep),
            state(64, Written::AtLoad),
            state(8192, Written::WithAdapter),
            state(1024, Written::AtResume),
        ]);
        // One page for both that are written; the rest of it is shared.
        assert_eq!(near.shared_at_load(false), 4096 - 1088);
        assert_eq!(near.shared_at_load(true), 3 * 4096 - 1088 - 8192);
        assert_eq!(near.shared_at_resume(), 3 * 4096 - 2112 - 8192);
    }
}
