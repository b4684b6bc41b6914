//! What the compiler knows of the machine it plans for: data, never a device handle.
//!
//! Invariant: two equal profiles give two equal plans.

use crate::{KernelRules, MemoryDomain, Prices, ProgramSizes};

/// A machine as the compiler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProfile {
    /// For instance `cpu avx512`.
    pub name: String,
    /// Worker threads, the caller's included.
    pub threads: usize,
    /// Bytes of memory of its own, in which its arena, its sources and its kernels' scratch lie; `None` where these lie in
    /// the host's.
    pub own_memory_bytes: Option<usize>,
    /// Bytes the executor holds beside arena, weights and states: packing scratch, thread stacks in use, tables.
    pub executor_bytes: usize,
    /// What it holds of a loaded plan.
    pub program: ProgramSizes,
    /// What its kernels need and where they may be interrupted.
    pub rules: KernelRules,
    /// What ops cost in time.
    pub prices: Prices,
}

impl DeviceProfile {
    /// Where its arena, its sources and its kernels' scratch lie.
    pub fn tensor_domain(&self) -> MemoryDomain {
        match self.own_memory_bytes {
            Some(_) => MemoryDomain::Device,
            None => MemoryDomain::Host,
        }
    }

    /// A profile for tests and shape-only planning: one thread, nothing reserved, generic rules and nominal prices.
    pub fn generic() -> Self {
        let prices = Prices::nominal(1);
        DeviceProfile {
            name: "generic".to_string(),
            threads: 1,
            own_memory_bytes: None,
            executor_bytes: 0,
            program: ProgramSizes::default(),
            rules: KernelRules::GENERIC,
            prices,
        }
    }
}
