//! The machine that something was computed on, for records and for the cache of prices.

use crate::plan::process_memory::total_bytes;
use serde::Serialize;

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Machine {
    pub cpu: Option<String>,
    pub isa: String,
    pub threads: usize,
    pub memory_bytes: Option<u64>,
    pub gpu: Option<String>,
    /// What ran the plan.
    pub backend: &'static str,
}

impl Machine {
    /// This machine, with the instruction level and threads of the executor.
    pub fn this(isa: &str, threads: usize) -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            cpu: cpu.map(|(_, name)| name.trim().to_string()),
            isa: isa.to_string(),
            threads,
            memory_bytes: total_bytes(),
            gpu: None,
            backend: "cpu",
        }
    }
}
