//! What memory is for, by type: the rows of the account, the coarser rows of a phase, the phases.
//!
//! Invariant: a row is known by its variant alone; its two names, for JSON and for people, stand here and nowhere else. Look
//! next at `memory` for what fills them.

use remat_plan::MemoryDomain;
use std::collections::BTreeMap;

/// Declares rows with their names, so that table and enum cannot differ.
macro_rules! rows {
    ($(#[$of:meta])* $rows:ident { $($(#[$doc:meta])* $row:ident $json:literal $words:literal,)* }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $rows { $($(#[$doc])* $row,)* }

        impl $rows {
            /// All rows, in the order of a table.
            pub const ALL: &'static [$rows] = &[$($rows::$row,)*];

            /// The key in JSON.
            pub const fn json_name(self) -> &'static str {
                match self { $($rows::$row => $json,)* }
            }

            /// The words for people.
            pub const fn words(self) -> &'static str {
                match self { $($rows::$row => $words,)* }
            }
        }
    };
}

rows! {
    /// What a run holds something for.
    MemoryPart {
        /// Frozen weights, but for quantised ones.
        Weights "weights" "weights",
        /// Frozen weights in few bits.
        QuantisedWeights "quantised_weights" "quantised weights",
        /// Trained parameters, with their working copies.
        TrainedParameters "trained_parameters" "trained parameters",
        /// Their gradients.
        Gradients "gradients" "gradients",
        /// Their moments.
        Optimizer "optimizer" "optimizer",
        /// What of the arena lives from forward to backward.
        KeptActivations "kept_activations" "kept activations",
        /// The largest workspace of the head.
        HeadWorkspace "head_workspace" "head workspace",
        /// The rest of the arena.
        Transient "transient" "transient",
        /// What is written before each run.
        Inputs "inputs" "inputs",
        /// What kernels hold beside the arena.
        KernelScratch "kernel_scratch" "kernel scratch",
        /// Plans in the form that runs.
        ResolvedPlans "resolved_plans" "resolved plans",
        /// Rows and batches.
        Data "data" "data",
        /// The times of one update's steps.
        Trace "trace" "trace",
        /// What weights and states that are not in memory pass through.
        CopyBuffers "copy_buffers" "copy buffers",
        /// Keys and values of the tokens of a sample.
        KvCache "kv_cache" "kv cache of samples",
        /// The tokenizer that samples are read and written with, and their buffers.
        SampleTokenizer "sample_tokenizer" "tokenizer of samples",
        /// Code, compiled plans, and what the process held when it was asked.
        ProgramAndTokenizer "program_and_tokenizer" "program and tokenizer",
        /// What is counted nowhere else.
        Reserve "reserve" "reserve",
        /// The file that offloaded values go to.
        SpillFile "spill_file" "spill file",
        /// The file of weights that are not in memory.
        WeightsFile "weights_file" "weights file",
        /// The file of training states that are not in memory.
        StatesFile "states_file" "states file",
    }
}

rows! {
    /// What a phase of a run holds something for.
    PhasePart {
        /// Frozen weights, and under full fine-tuning the trained ones.
        Weights "weights" "weights",
        /// Copies of weights in the layout of kernels.
        PackedWeights "packed_weights" "packed weights",
        /// Trained parameters of adapters.
        Adapter "adapter" "adapter",
        /// Gradients.
        Gradients "gradients" "gradients",
        /// Moments.
        Optimizer "optimizer" "optimizer",
        /// What lives from forward to backward.
        Activations "activations" "activations",
        /// The rest of the arena.
        Transient "transient" "transient",
        /// The largest workspace of the head.
        Head "head" "head",
        /// Keys and values of earlier tokens.
        KvCache "kv_cache" "kv cache",
        /// What kernels hold beside the arena, and plans in the form that runs.
        Workspace "workspace" "workspace",
        /// Rows, batches, inputs, and what weights are read through.
        DataBuffers "data_buffers" "data buffers",
        /// What reading rows took, where that was more than all else; what samples are written with.
        Tokenizer "tokenizer" "tokenizer",
        /// Offloaded values in the host's memory.
        OffloadHost "offload_host" "offload host",
        /// The program itself, and what is counted nowhere else.
        Reserve "reserve" "reserve",
        /// The file that offloaded values go to.
        SpillFile "spill_file" "spill file",
        /// The file of weights that are not in memory.
        WeightsFile "weights_file" "weights file",
        /// The file of training states that are not in memory.
        StatesFile "states_file" "states file",
    }
}

impl MemoryPart {
    /// Whether it is a file, and so no memory.
    pub fn is_file(self) -> bool {
        matches!(self, MemoryPart::SpillFile | MemoryPart::WeightsFile | MemoryPart::StatesFile)
    }

    /// The row of a phase that it is part of.
    pub(crate) fn in_phase(self, trains_adapters: bool) -> PhasePart {
        match self {
            MemoryPart::TrainedParameters if trains_adapters => PhasePart::Adapter,
            MemoryPart::Weights | MemoryPart::QuantisedWeights | MemoryPart::TrainedParameters => PhasePart::Weights,
            MemoryPart::Gradients => PhasePart::Gradients,
            MemoryPart::Optimizer => PhasePart::Optimizer,
            MemoryPart::KeptActivations => PhasePart::Activations,
            MemoryPart::HeadWorkspace => PhasePart::Head,
            MemoryPart::Transient => PhasePart::Transient,
            MemoryPart::KernelScratch | MemoryPart::ResolvedPlans | MemoryPart::CopyBuffers => PhasePart::Workspace,
            MemoryPart::Inputs | MemoryPart::Data | MemoryPart::Trace => PhasePart::DataBuffers,
            MemoryPart::ProgramAndTokenizer | MemoryPart::Reserve => PhasePart::Reserve,
            MemoryPart::KvCache => PhasePart::KvCache,
            MemoryPart::SampleTokenizer => PhasePart::Tokenizer,
            MemoryPart::SpillFile => PhasePart::SpillFile,
            MemoryPart::WeightsFile => PhasePart::WeightsFile,
            MemoryPart::StatesFile => PhasePart::StatesFile,
        }
    }
}

impl PhasePart {
    /// Whether it is a file, and so no memory.
    pub fn is_file(self) -> bool {
        matches!(self, PhasePart::SpillFile | PhasePart::WeightsFile)
    }
}

/// A part of a run that has a peak of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunPhase {
    /// Reading rows and weights.
    Load,
    /// Micro-steps and updates.
    Step,
    /// The loss of held-out rows, and samples.
    Evaluation,
    /// Writing a save or the result.
    Save,
    /// Reading a save and weights.
    Resume,
}

impl RunPhase {
    /// All phases, in the order of a table.
    pub const ALL: &'static [RunPhase] =
        &[RunPhase::Load, RunPhase::Step, RunPhase::Evaluation, RunPhase::Save, RunPhase::Resume];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            RunPhase::Load => "load",
            RunPhase::Step => "step",
            RunPhase::Evaluation => "evaluation",
            RunPhase::Save => "save",
            RunPhase::Resume => "resume",
        }
    }
}

/// Bytes by where they lie and what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTable<P> {
    bytes: BTreeMap<(MemoryDomain, P), usize>,
}

impl<P> Default for MemoryTable<P> {
    fn default() -> Self {
        MemoryTable { bytes: BTreeMap::new() }
    }
}

impl<P: Copy + Ord> MemoryTable<P> {
    /// What a part holds in a domain.
    pub fn bytes(&self, domain: MemoryDomain, part: P) -> usize {
        self.bytes.get(&(domain, part)).copied().unwrap_or(0)
    }

    /// What a part holds, wherever that lies.
    pub fn of(&self, part: P) -> usize {
        MemoryDomain::ALL.iter().map(|&domain| self.bytes(domain, part)).sum()
    }

    /// What all parts hold in a domain.
    pub fn in_domain(&self, domain: MemoryDomain) -> usize {
        self.bytes.iter().filter(|((of, _), _)| *of == domain).map(|(_, bytes)| bytes).sum()
    }

    /// All bytes, by where they lie and what they are for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemoryDomain, P, usize)> {
        self.bytes.iter().map(|(&(domain, part), &bytes)| (domain, part, bytes))
    }

    pub(crate) fn add(&mut self, domain: MemoryDomain, part: P, bytes: usize) {
        *self.bytes.entry((domain, part)).or_insert(0) += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_rows_have_one_name() {
        let names: HashSet<&str> = MemoryPart::ALL.iter().map(|part| part.json_name()).collect();
        assert_eq!(names.len(), MemoryPart::ALL.len());
        let names: HashSet<&str> = PhasePart::ALL.iter().map(|part| part.json_name()).collect();
        assert_eq!(names.len(), PhasePart::ALL.len());
    }

    #[test]
    fn a_part_is_summed_over_domains_and_a_domain_over_parts() {
        let mut table = MemoryTable::default();
        table.add(MemoryDomain::Host, PhasePart::Workspace, 1);
        table.add(MemoryDomain::Device, PhasePart::Workspace, 20);
        table.add(MemoryDomain::Device, PhasePart::Weights, 300);
        table.add(MemoryDomain::Device, PhasePart::Weights, 4000);
        assert_eq!(table.of(PhasePart::Workspace), 21);
        assert_eq!(MemoryDomain::ALL.map(|domain| table.in_domain(domain)), [1, 4320, 0]);
    }
}
