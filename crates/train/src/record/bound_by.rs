//! What bound a result: the part of the memory, or the limit, that a user would have to change for another one.

use crate::plan::memory::MemoryAccount;
use crate::plan::memory_part::MemoryPart;
use crate::plan::planning::Limit;
use remat_plan::{Plan, Policy};

/// What bound the result: the limit, where the plan recomputes because of it, and the largest part of the memory that the
/// user can change. What bounds the time is always the backend.
pub(crate) fn bound_by(account: &MemoryAccount, limited_to: Option<(Limit, &str)>) -> String {
    let chosen = |(domain, part, bytes)| Some((constraint(part)?, domain, part, bytes));
    let rows = account.rows.iter().filter_map(chosen);
    let Some((constraint, domain, part, bytes)) = rows.max_by_key(|(.., bytes)| *bytes) else {
        return "nothing".to_string();
    };
    let share = 100.0 * bytes as f64 / account.peak_bytes(domain).max(1) as f64;
    let largest = format!("{constraint}: {} ({share:.0} % of the planned peak)", part.words());
    match limited_to {
        Some((limit, what)) => {
            format!("memory: {} {} bytes, so the plan {what}; then {largest}", limit.whose, limit.bytes)
        }
        None => largest,
    }
}

/// What a user would change to change a part of the memory.
fn constraint(part: MemoryPart) -> Option<&'static str> {
    match part {
        MemoryPart::Weights | MemoryPart::QuantisedWeights => Some("model size"),
        MemoryPart::TrainedParameters | MemoryPart::Gradients | MemoryPart::Optimizer => Some("method"),
        MemoryPart::KeptActivations | MemoryPart::HeadWorkspace | MemoryPart::Transient | MemoryPart::Inputs => {
            Some("batch")
        }
        MemoryPart::Data => Some("data"),
        MemoryPart::KvCache | MemoryPart::SampleTokenizer => Some("samples"),
        // What the program itself takes is nothing to choose, and a file is no memory.
        MemoryPart::KernelScratch
        | MemoryPart::ResolvedPlans
        | MemoryPart::WeightsFile
        | MemoryPart::StatesFile
        | MemoryPart::Trace
        | MemoryPart::CopyBuffers
        | MemoryPart::ProgramAndTokenizer
        | MemoryPart::Reserve
        | MemoryPart::SpillFile => None,
    }
}

/// The limit, if it is why a plan recomputes or offloads, and which of them it does.
pub(crate) fn limiting(limit: Option<Limit>, micro: &Plan) -> Option<(Limit, &'static str)> {
    let recomputes = micro.policy == Policy::Auto && micro.recomputed_steps().next().is_some();
    let what = match (recomputes, micro.copy_steps().next().is_some()) {
        (true, false) => "recomputes",
        (true, true) => "recomputes and offloads",
        (false, true) => "offloads",
        (false, false) => return None,
    };
    limit.map(|limit| (limit, what))
}
