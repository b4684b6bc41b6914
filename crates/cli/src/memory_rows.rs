//! The memory of a run by phase as rows of a table, for `plan`'s text and for pages alike.
//!
//! Invariant: kinds of memory are never added up; each that holds something has a row of its own below the parts.

use remat_plan::MemoryDomain;
use remat_train::{PhaseMemory, PhasePart};

/// A row: its name, and its bytes in every phase.
pub(crate) struct MemoryRow {
    pub(crate) name: String,
    pub(crate) bytes: Vec<usize>,
}

/// The parts that some phase holds in memory, then what each kind of memory holds; `peak` is what the last is called.
pub(crate) fn memory_rows(phases: &[PhaseMemory], peak: &str) -> Vec<MemoryRow> {
    let row =
        |name: String, of: &dyn Fn(&PhaseMemory) -> usize| MemoryRow { name, bytes: phases.iter().map(of).collect() };
    let in_memory = PhasePart::ALL.iter().filter(|part| !part.is_file());
    let parts = in_memory.map(|&part| row(part.words().to_string(), &|phase| phase.rows.of(part)));
    let [host, device, disk] =
        MemoryDomain::ALL.map(|domain| row(domain.name().to_string(), &|phase| phase.rows.in_domain(domain)));
    let has_own_memory = device.bytes.iter().any(|&bytes| bytes > 0);
    let domains = match has_own_memory {
        true => [host, device].map(|row| MemoryRow { name: format!("{peak}, {}", row.name), ..row }).into(),
        false => vec![MemoryRow { name: peak.to_string(), ..host }],
    };
    let disk = MemoryRow { name: "on disk".to_string(), ..disk };
    let rows = parts.chain(domains).chain([disk]);
    rows.filter(|row| row.bytes.iter().any(|&bytes| bytes > 0)).collect()
}
