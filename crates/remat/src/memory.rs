//! What a step holds, in bytes. Invariant: the executor's own sizes and the plan's, nothing estimated.

use remat_plan::{DeviceMemory, Plan};

/// Bytes of a step: everything the library allocates for it. The process itself comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReport {
    /// Kept values: what lives from forward to backward.
    pub activation_bytes: usize,
    /// The arena: kept values, temporaries and workspace at their largest.
    pub arena_bytes: usize,
    /// Frozen weights.
    pub weight_bytes: usize,
    /// Parameters, gradients and moments.
    pub state_bytes: usize,
    /// Inputs.
    pub input_bytes: usize,
    /// Packing scratch and stacks of the threads.
    pub executor_bytes: usize,
    /// The file that offloaded values go to.
    pub spill_file_bytes: usize,
    /// The sum of arena, weights, states, inputs and executor. It is known before the first run and no run exceeds it.
    pub planned_peak: usize,
}

impl MemoryReport {
    pub(crate) fn of(plan: &Plan, allocated: DeviceMemory, executor_bytes: usize) -> Self {
        let DeviceMemory { arena, weights, states, inputs, spill_file, .. } = allocated;
        MemoryReport {
            activation_bytes: plan.activation_bytes(),
            arena_bytes: arena,
            weight_bytes: weights,
            state_bytes: states,
            input_bytes: inputs,
            executor_bytes,
            spill_file_bytes: spill_file,
            planned_peak: arena + weights + states + inputs + executor_bytes,
        }
    }
}
