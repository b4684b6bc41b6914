//! What the compiler knows of the machine it plans for: data, never a device handle.
//!
//! Invariant: two equal profiles give two equal plans.

use crate::Prices;

/// A machine as the compiler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProfile {
    /// For instance `cpu avx512`.
    pub name: String,
    /// Alignment of every slot, in bytes; a power of two.
    pub slot_alignment_bytes: usize,
    /// Worker threads, the caller's included.
    pub threads: usize,
    /// Bytes the executor holds beside arena, weights and states: packing scratch, thread stacks in use, tables.
    pub executor_bytes: usize,
    /// Sums over tokens may be interrupted after any multiple of this many rows and be continued without a changed bit.
    pub token_block: usize,
    /// What ops cost in time.
    pub prices: Prices,
}

impl DeviceProfile {
    /// A profile for tests and shape-only planning: one cache line of alignment, one thread, nothing reserved, sums
    /// over tokens in blocks of 512.
    pub fn generic() -> Self {
        let prices = Prices::nominal(1);
        DeviceProfile {
            name: "generic".to_string(),
            slot_alignment_bytes: 64,
            threads: 1,
            executor_bytes: 0,
            token_block: 512,
            prices,
        }
    }
}
