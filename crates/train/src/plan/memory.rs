//! The memory account: what a run will hold, row by row, before it holds it; and what the process really held.
//!
//! Invariant: the rows add up to the planned peak. Arena, sources and kernel scratch are exactly what the executor
//! allocates at load; what the program itself takes is counted by `program_memory`; the reserve covers what is neither:
//! code that was not run yet, read and write buffers, page rounding, thread stacks. [`MemoryAccount::phases`] has the same
//! by phase of a run.

use crate::plan::program_memory::{earlier_bytes, program_bytes};
use crate::plan::source_totals::SourceTotals;
use remat_ir::Graph;
use remat_plan::{Action, DeviceProfile, Plan, Step};
use remat_step::StepTrace;
use std::fs;

/// For code that runs first after the account is made, buffers of files, rounding to pages, stacks and the allocator's own
/// tables: two to three MiB where it was measured, and no slack to hide an error in.
pub(crate) const RESERVE_BYTES: usize = 4 << 20;

/// Buffers that weights are read through, one piece after the other: as they are stored, and as numbers.
const LOAD_BUFFER_BYTES: usize = 3 << 20;

/// The same where weights are quantised on the way: also as they are rounded, and their scales.
const QUANTISING_BUFFER_BYTES: usize = 6 << 20;

/// The row of weights in few bits.
const QUANTISED: &str = "quantised weights";

/// What a run holds beside its plans.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Buffers {
    /// Samples that are in memory already.
    pub(crate) data_bytes: usize,
    /// What the tokenizer takes while rows are read, beside them.
    pub(crate) reading_bytes: usize,
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

    fn trace_bytes(self, micro: &Plan, others: &[&Plan]) -> usize {
        let most = others.iter().map(|plan| plan.steps.len()).fold(micro.steps.len(), usize::max);
        match (self.traced_micro_batches, others.first()) {
            (1.., Some(update)) => StepTrace::bytes(self.traced_micro_batches * most + update.steps.len(), most),
            _ => 0,
        }
    }
}

/// One line of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRow {
    /// What for.
    pub name: &'static str,
    /// How much.
    pub bytes: usize,
}

/// What a run will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryAccount {
    /// The rows, in the order of a table.
    pub rows: Vec<MemoryRow>,
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
    /// What else is resident at load, and at resume, because it shares a page with what is written.
    shared_pages_bytes: [usize; 2],
}

/// What a run holds in one of its phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseMemory {
    /// `load`, `step`, `evaluation`, `save` or `resume`.
    pub name: &'static str,
    /// By what it is for, in the order of a table; every phase has the same rows.
    pub parts: Vec<MemoryRow>,
}

impl PhaseMemory {
    /// The peak resident memory of the whole process in this phase.
    pub fn peak_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn part(&mut self, name: &str) -> &mut MemoryRow {
        self.parts.iter_mut().find(|part| part.name == name).expect("a row of every phase")
    }
}

impl MemoryAccount {
    /// Of a run of these plans, the update's and others beside the micro-step's, on a device of this profile.
    pub(crate) fn new(micro: &Plan, others: &[&Plan], profile: &DeviceProfile, buffers: Buffers) -> Self {
        let (data_bytes, executor_bytes) = (buffers.data_bytes, profile.executor_bytes);
        let resolved = std::iter::once(&micro).chain(others).map(|plan| profile.program.bytes(plan)).sum();
        let graphs: Vec<&Graph> = std::iter::once(&micro.graph).chain(others.iter().map(|plan| &plan.graph)).collect();
        let sources = SourceTotals::of(&graphs);
        let steps = std::iter::once(&micro).chain(others).map(|plan| plan.steps.len()).sum();
        let arena = ArenaParts::of(micro, largest_arena(micro, others));
        let row = |name, bytes| MemoryRow { name, bytes };
        let rows = vec![
            row("weights", sources.weights),
            row(QUANTISED, sources.quantised),
            row("trained parameters", sources.parameters),
            row("gradients", sources.gradients),
            row("optimizer", sources.moments),
            row("kept activations", arena.kept),
            row("head workspace", arena.head),
            row("transient", arena.transient),
            row("inputs", sources.inputs),
            row("kernel scratch", executor_bytes),
            row("resolved plans", resolved),
            row("data", data_bytes),
            row("trace", buffers.trace_bytes(micro, others)),
            row("program and tokenizer", program_bytes(data_bytes, steps)),
            row("reserve", RESERVE_BYTES),
        ];
        let (quantised_parameters, quantised_bytes) = (sources.quantised_elements, sources.quantised_exactly);
        let earlier_peak_bytes = buffers.earlier_bytes(steps);
        MemoryAccount {
            rows,
            earlier_peak_bytes,
            quantised_parameters,
            quantised_bytes,
            trains_adapters: sources.has_adapters,
            untouched_at_load_bytes: if buffers.adapter_is_read { 0 } else { sources.zero_at_first },
            shared_pages_bytes: [sources.shared_at_load(buffers.adapter_is_read), sources.shared_at_resume()],
        }
    }

    /// The same, phase by phase. Sources are resident once they are filled: states when the first update writes them, or a
    /// resumed run reads them. Pages of the arena that a step has touched stay, so evaluation and saves hold them, too.
    pub fn phases(&self) -> Vec<PhaseMemory> {
        let buffers = if self.quantised_parameters > 0 { QUANTISING_BUFFER_BYTES } else { LOAD_BUFFER_BYTES };
        let mut loading = self.phase("load", &["weights", QUANTISED, "trained parameters"]);
        loading.part("adapter").bytes -= self.untouched_at_load_bytes;
        loading.part("gradients").bytes = self.shared_pages_bytes[0];
        let reading = self.earlier_peak_bytes.saturating_sub(loading.peak_bytes());
        // Gradients are zero between updates and not saved, so their pages are untouched until the first step.
        let resumed = ["weights", QUANTISED, "trained parameters", "optimizer"];
        let all: Vec<&str> = self.rows.iter().map(|row| row.name).collect();
        let mut phases = vec![loading, self.phase("step", &all), self.phase("evaluation", &all)];
        let mut resuming = self.phase("resume", &resumed);
        resuming.part("gradients").bytes = self.shared_pages_bytes[1];
        phases.extend([self.phase("save", &all), resuming]);
        for phase in phases.iter_mut().filter(|phase| ["load", "resume"].contains(&phase.name)) {
            for part in &mut phase.parts {
                // Weights are read when a tokenizer has done its work: the larger of the two counts.
                match part.name {
                    "tokenizer" => part.bytes += reading.saturating_sub(buffers),
                    "data_buffers" => part.bytes += buffers,
                    _ => {}
                }
            }
        }
        phases
    }

    /// One phase that holds the given rows and what every phase holds.
    fn phase(&self, name: &'static str, held: &[&str]) -> PhaseMemory {
        let always = ["data", "inputs", "kernel scratch", "resolved plans", "program and tokenizer", "reserve"];
        let sum = |names: &[&str]| -> usize {
            names
                .iter()
                .filter(|name| held.contains(name) || always.contains(name))
                .map(|name| self.bytes_of(name))
                .sum()
        };
        let (weights, adapter): (&[&str], &[&str]) = match self.trains_adapters {
            true => (&["weights", QUANTISED], &["trained parameters"]),
            false => (&["weights", QUANTISED, "trained parameters"], &[]),
        };
        let parts: [(&'static str, &[&str]); 14] = [
            ("weights", weights),
            ("packed_weights", &[]),
            ("adapter", adapter),
            ("gradients", &["gradients"]),
            ("optimizer", &["optimizer"]),
            ("activations", &["kept activations"]),
            ("transient", &["transient"]),
            ("head", &["head workspace"]),
            ("kv_cache", &[]),
            ("workspace", &["kernel scratch", "resolved plans"]),
            ("data_buffers", &["data", "inputs", "trace"]),
            ("tokenizer", &[]),
            ("offload_host", &[]),
            ("reserve", &["program and tokenizer", "reserve"]),
        ];
        let parts = parts.into_iter().map(|(name, rows)| MemoryRow { name, bytes: sum(rows) }).collect();
        PhaseMemory { name, parts }
    }

    /// The peak resident memory of the whole process: of its highest phase.
    pub fn planned_peak_bytes(&self) -> usize {
        self.phases().iter().map(PhaseMemory::peak_bytes).fold(self.earlier_peak_bytes, usize::max)
    }

    /// What is held while the steps run: the sum of the rows.
    pub fn running_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Bits that a quantised weight takes for each of its parameters, scales and maps included, if there are any.
    pub fn bits_per_quantised_parameter(&self) -> Option<f64> {
        let bits = 8.0 * self.quantised_bytes as f64;
        (self.quantised_parameters > 0).then(|| bits / self.quantised_parameters as f64)
    }

    /// The bytes of one row, 0 if there is none of this name.
    pub fn bytes_of(&self, name: &str) -> usize {
        self.rows.iter().find(|row| row.name == name).map_or(0, |row| row.bytes)
    }

    /// What a run of these graphs needs beside the arena, as far as can be said before they are compiled.
    pub(crate) fn beside_arena(graphs: &[&Graph], executor_bytes: usize, buffers: Buffers) -> usize {
        let data_bytes = buffers.data_bytes;
        let SourceTotals { weights, quantised, parameters, gradients, moments, inputs, .. } = SourceTotals::of(graphs);
        let sources = weights + quantised + parameters + gradients + moments + inputs;
        // Every node is a step or more.
        let steps = graphs.iter().map(|graph| graph.nodes.len()).sum();
        sources + executor_bytes + data_bytes + program_bytes(data_bytes, steps) + RESERVE_BYTES
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
            Action::Compute(op) => micro.graph.node(op).op.name().starts_with("linear_cross_entropy"),
            _ => false,
        };
        let workspaces = micro.steps.iter().filter(is_head).filter_map(|step| step.workspace);
        let head = workspaces.map(|slot| slot.bytes).max().unwrap_or(0).min(arena_bytes - kept);
        ArenaParts { kept, head, transient: arena_bytes - kept - head }
    }
}

/// The process's highest resident memory so far, where the system tells.
pub fn peak_resident_bytes() -> Option<u64> {
    process_bytes("VmHWM:")
}

/// The process's present resident memory; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    process_bytes("VmRSS:").unwrap_or(0)
}

/// Sets the high-water mark back to what is resident now, where the system lets a process do so.
pub(crate) fn reset_peak() {
    // A system without this file keeps the old mark, and the peak read later is an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Memory of the machine.
pub(crate) fn total_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

pub(crate) fn process_bytes(key: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, key)
}

/// The number behind a key, as the files of `/proc` write it: `Key:   123 kB`.
pub(crate) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_key() {
        let text = "Name:\tremat\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kibibytes(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(kibibytes(text, "VmRSS:"), Some(1 << 20));
        assert_eq!(kibibytes(text, "VmSwap:"), None);
        assert_eq!(kibibytes("VmHWM: 99999999999999999999 kB", "VmHWM:"), None);
    }

    #[test]
    fn the_peak_of_this_process_is_plausible() {
        let touched = vec![1_u8; 32 << 20];
        let peak = peak_resident_bytes().expect("Linux tells");
        assert!(peak >= touched.iter().map(|&byte| u64::from(byte)).sum::<u64>(), "{peak}");
    }
}
