//! The memory account: what a run will hold, by what it is for and where it lies, before it holds it. Look at
//! `process_memory` for what the process really held.
//!
//! Invariant: the rows add up to the planned peak. Arena, sources and kernel scratch are exactly what the executor
//! allocates at load; what the program itself takes is counted by `program_memory`; the reserve covers what is neither:
//! code that was not run yet, read and write buffers, page rounding, thread stacks. [`MemoryAccount::phases`] has the same
//! by phase of a run. Memory of a device, the host's and the disk are never added up. Look next at `memory_part`.

use crate::plan::memory_part::{MemoryPart, MemoryTable, PhasePart, RunPhase};
use crate::plan::program_memory::{RESERVE_BYTES, earlier_bytes, program_bytes};
use crate::plan::source_totals::SourceTotals;
use remat_ir::Graph;
use remat_plan::{Action, DeviceProfile, MemoryDomain, OpClass, Plan, Step};
use remat_step::StepTrace;
use std::collections::HashSet;

/// Buffers that weights are read through, one piece after the other: as they are stored, and as numbers.
const LOAD_BUFFER_BYTES: usize = 3 << 20;

/// The same where weights are quantised on the way: also as they are rounded, and their scales.
const QUANTISING_BUFFER_BYTES: usize = 6 << 20;

/// What a run holds beside its plans.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Buffers {
    /// Samples that are in memory already.
    pub(crate) data_bytes: usize,
    /// What the tokenizer takes while rows are read, beside them.
    pub(crate) reading_bytes: usize,
    /// What of the tokenizer stays, with what samples are made in; 0 of a run that makes none.
    pub(crate) sampling_bytes: usize,
    /// What this process holds while it measures prices; 0 if it does not.
    pub(crate) measuring_bytes: usize,
    /// Micro-batches whose steps are timed with those of their update.
    pub(crate) traced_micro_batches: usize,
    /// Whether the run starts from an adapter that was trained before, so that all of it is written at load.
    pub(crate) adapter_is_read: bool,
}

impl Buffers {
    /// What the process holds at most before it loads plans of so many steps together.
    pub(crate) fn earlier_bytes(self, steps: usize) -> usize {
        earlier_bytes(self.data_bytes, self.reading_bytes, self.measuring_bytes, steps)
    }

    /// What the process has in memory already when a run is planned.
    fn held_bytes(self) -> usize {
        self.data_bytes + self.sampling_bytes
    }

    fn trace_bytes(self, micro: &Plan, others: &[&Plan]) -> usize {
        let most = others.iter().map(|plan| plan.steps.len()).fold(micro.steps.len(), usize::max);
        match (self.traced_micro_batches, others.first()) {
            // What may follow each micro-step has a step per parameter, as the update has one and more.
            (1.., Some(update)) => {
                let steps = self.traced_micro_batches * (most + update.steps.len()) + update.steps.len();
                StepTrace::bytes(steps, most)
            }
            _ => 0,
        }
    }
}

/// What a run will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryAccount {
    /// By where it lies and what it is for.
    pub rows: MemoryTable<MemoryPart>,
    /// What the process uses at most before the run is loaded: a tokenizer may need more than the training.
    pub earlier_peak_bytes: usize,
    /// Parameters in quantised weights.
    pub quantised_parameters: usize,
    /// Bytes of these, scales and maps included; in the rows they are rounded to pages.
    pub quantised_bytes: usize,
    /// Whether what is trained are adapters, beside the model's own weights.
    pub trains_adapters: bool,
    /// Of the trained parameters, what is zero until the first update writes it.
    untouched_at_load_bytes: usize,
}

/// What a run holds in one of its phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseMemory {
    /// The phase.
    pub phase: RunPhase,
    /// By where it lies and what it is for.
    pub rows: MemoryTable<PhasePart>,
}

impl PhaseMemory {
    /// The peak resident memory of the whole process in this phase.
    pub fn peak_bytes(&self) -> usize {
        self.rows.in_domain(MemoryDomain::Host)
    }
}

impl MemoryAccount {
    /// Of a run of these plans, the update's and others beside the micro-step's, on a device of this profile.
    pub(crate) fn new(micro: &Plan, others: &[&Plan], profile: &DeviceProfile, buffers: Buffers) -> Self {
        MemoryAccount::with_files(micro, others, profile, buffers, &HashSet::new())
    }

    /// The same where weights of these names lie in the model's own files as they are read.
    pub(crate) fn with_files(
        micro: &Plan,
        others: &[&Plan],
        profile: &DeviceProfile,
        buffers: Buffers,
        in_files: &HashSet<String>,
    ) -> Self {
        let plans = || std::iter::once(&micro).chain(others);
        let resolved = plans().map(|plan| profile.program.bytes(plan)).sum();
        let graphs: Vec<&Graph> = plans().map(|plan| &*plan.graph).collect();
        let off = plans().flat_map(|plan| plan.spilled.iter().map(|&id| plan.graph.value(id).name.as_str()));
        let off: HashSet<&str> = off.collect();
        let alignment_bytes = profile.rules.slot_alignment_bytes;
        let sources = SourceTotals::with_some_off_memory(&graphs, alignment_bytes, &off, in_files);
        let steps = plans().map(|plan| plan.steps.len()).sum();
        let arena = ArenaParts::of(micro, largest_arena(micro, others));
        let spill_file = plans().map(|plan| plan.spill_file_bytes()).max().unwrap_or(0);
        let (device, host) = (profile.tensor_domain(), MemoryDomain::Host);
        let mut rows = MemoryTable::default();
        for (domain, part, bytes) in [
            (device, MemoryPart::Weights, sources.weights),
            (device, MemoryPart::QuantisedWeights, sources.quantised),
            (device, MemoryPart::TrainedParameters, sources.parameters),
            (device, MemoryPart::Gradients, sources.gradients),
            (device, MemoryPart::Optimizer, sources.moments),
            (device, MemoryPart::KeptActivations, arena.kept),
            (device, MemoryPart::HeadWorkspace, arena.head),
            (device, MemoryPart::Transient, arena.transient),
            (device, MemoryPart::Inputs, sources.inputs),
            (device, MemoryPart::KernelScratch, profile.executor_bytes),
            (host, MemoryPart::ResolvedPlans, resolved),
            (host, MemoryPart::CopyBuffers, if off.is_empty() { 0 } else { profile.program.copy_buffers }),
            (host, MemoryPart::Data, buffers.data_bytes),
            (host, MemoryPart::Trace, buffers.trace_bytes(micro, others)),
            (device, MemoryPart::KvCache, sources.caches),
            (host, MemoryPart::SampleTokenizer, buffers.sampling_bytes),
            (host, MemoryPart::ProgramAndTokenizer, program_bytes(buffers.held_bytes(), steps)),
            (host, MemoryPart::Reserve, RESERVE_BYTES),
            (MemoryDomain::Disk, MemoryPart::SpillFile, spill_file),
            (MemoryDomain::Disk, MemoryPart::WeightsFile, sources.weights_file),
            (MemoryDomain::Disk, MemoryPart::StatesFile, sources.states_file),
        ] {
            rows.add(domain, part, bytes);
        }
        MemoryAccount {
            rows,
            earlier_peak_bytes: buffers.earlier_bytes(steps),
            quantised_parameters: sources.quantised_elements,
            quantised_bytes: sources.quantised_exactly,
            trains_adapters: sources.has_adapters,
            untouched_at_load_bytes: if buffers.adapter_is_read { 0 } else { sources.zero_at_first },
        }
    }

    /// The same, phase by phase.
    pub fn phases(&self) -> Vec<PhaseMemory> {
        let buffers = if self.quantised_parameters > 0 { QUANTISING_BUFFER_BYTES } else { LOAD_BUFFER_BYTES };
        let reading = self.earlier_peak_bytes.saturating_sub(self.held_in(RunPhase::Load).peak_bytes());
        let with_reading = |&phase: &RunPhase| {
            let mut memory = self.held_in(phase);
            if [RunPhase::Load, RunPhase::Resume].contains(&phase) {
                // Weights are read when a tokenizer has done its work: the larger of the two counts.
                memory.rows.add(MemoryDomain::Host, PhasePart::Tokenizer, reading.saturating_sub(buffers));
                memory.rows.add(MemoryDomain::Host, PhasePart::DataBuffers, buffers);
            }
            memory
        };
        RunPhase::ALL.iter().map(with_reading).collect()
    }

    /// What is held in a phase beside what rows and weights are read through.
    fn held_in(&self, phase: RunPhase) -> PhaseMemory {
        let mut rows = MemoryTable::default();
        for (domain, part, bytes) in self.rows.iter() {
            let bytes = match domain {
                MemoryDomain::Host => self.resident_bytes(phase, part, bytes),
                // What a device or a disk gave at load is taken, whether it was written to or not.
                MemoryDomain::Device | MemoryDomain::Disk => bytes,
            };
            rows.add(domain, part.in_phase(self.trains_adapters), bytes);
        }
        PhaseMemory { phase, rows }
    }

    /// What of a row is resident in a phase. Sources are once they are filled: states when the first update writes them, or
    /// a resumed run reads them. Pages of the arena that a step has touched stay, so evaluation and saves hold them, too.
    fn resident_bytes(&self, phase: RunPhase, part: MemoryPart, bytes: usize) -> usize {
        match (part, phase) {
            (_, RunPhase::Step | RunPhase::Evaluation | RunPhase::Save) => bytes,
            // Where the model itself is trained, all of it is written at load.
            (MemoryPart::TrainedParameters, RunPhase::Load) => bytes - self.untouched_at_load_bytes,
            // Gradients are zero between updates and not saved, so their pages are untouched until the first step.
            (MemoryPart::Gradients, RunPhase::Load | RunPhase::Resume) => 0,
            (MemoryPart::Optimizer, RunPhase::Resume) => bytes,
            (MemoryPart::Optimizer, RunPhase::Load) => 0,
            (
                MemoryPart::KeptActivations
                | MemoryPart::HeadWorkspace
                | MemoryPart::Transient
                | MemoryPart::Trace
                | MemoryPart::KvCache,
                _,
            ) => 0,
            (
                MemoryPart::Weights
                | MemoryPart::QuantisedWeights
                | MemoryPart::TrainedParameters
                | MemoryPart::Inputs
                | MemoryPart::KernelScratch
                | MemoryPart::ResolvedPlans
                | MemoryPart::CopyBuffers
                | MemoryPart::Data
                | MemoryPart::SampleTokenizer
                | MemoryPart::ProgramAndTokenizer
                | MemoryPart::Reserve
                | MemoryPart::SpillFile
                | MemoryPart::WeightsFile
                | MemoryPart::StatesFile,
                _,
            ) => bytes,
        }
    }

    /// The peak resident memory of the whole process: of its highest phase.
    pub fn planned_peak_bytes(&self) -> usize {
        self.peak_bytes(MemoryDomain::Host)
    }

    /// What is held at most in a domain: in its highest phase, or before the run is loaded.
    pub fn peak_bytes(&self, domain: MemoryDomain) -> usize {
        let of_phase = |phase: &PhaseMemory| phase.rows.in_domain(domain);
        self.phases().iter().map(of_phase).fold(self.earlier_bytes(domain), usize::max)
    }

    /// What a domain holds at most before the run is loaded.
    pub fn earlier_bytes(&self, domain: MemoryDomain) -> usize {
        if domain == MemoryDomain::Host { self.earlier_peak_bytes } else { 0 }
    }

    /// What is held in a domain while the steps run: the sum of its rows.
    pub fn running_bytes(&self, domain: MemoryDomain) -> usize {
        self.rows.in_domain(domain)
    }

    /// Bits that a quantised weight takes for each of its parameters, scales and maps included, if there are any.
    pub fn bits_per_quantised_parameter(&self) -> Option<f64> {
        let bits = 8.0 * self.quantised_bytes as f64;
        (self.quantised_parameters > 0).then(|| bits / self.quantised_parameters as f64)
    }

    /// The bytes of one row, wherever it lies.
    pub fn bytes_of(&self, part: MemoryPart) -> usize {
        self.rows.of(part)
    }

    /// What a run of these graphs needs beside the arena where that lies, as far as can be said before they are compiled.
    pub(crate) fn beside_arena(graphs: &[&Graph], profile: &DeviceProfile, buffers: Buffers) -> usize {
        let sources = SourceTotals::of(graphs, profile.rules.slot_alignment_bytes);
        let of_device = sources.bytes() + profile.executor_bytes;
        match profile.tensor_domain() {
            MemoryDomain::Host => {
                // Every node is a step or more.
                let steps = graphs.iter().map(|graph| graph.nodes.len()).sum();
                of_device + buffers.held_bytes() + program_bytes(buffers.held_bytes(), steps) + RESERVE_BYTES
            }
            MemoryDomain::Device | MemoryDomain::Disk => of_device,
        }
    }
}

/// Bytes of the arena that all plans run in.
pub(crate) fn largest_arena(micro: &Plan, others: &[&Plan]) -> usize {
    others.iter().map(|plan| plan.arena_bytes).fold(micro.arena_bytes, usize::max)
}

/// How the arena is used: what lives from forward to backward, the largest workspace of the head, and the rest.
struct ArenaParts {
    kept: usize,
    head: usize,
    transient: usize,
}

impl ArenaParts {
    fn of(micro: &Plan, arena_bytes: usize) -> Self {
        let kept = micro.activation_bytes().min(arena_bytes);
        let is_head = |step: &&Step| match step.action {
            Action::Compute(op) => OpClass::of(&micro.graph, micro.graph.node(op)).is_head(),
            _ => false,
        };
        let workspaces = micro.steps.iter().filter(is_head).filter_map(|step| step.workspace);
        let head = workspaces.map(|slot| slot.bytes).max().unwrap_or(0).min(arena_bytes - kept);
        ArenaParts { kept, head, transient: arena_bytes - kept - head }
    }
}
