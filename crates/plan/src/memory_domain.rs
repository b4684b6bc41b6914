//! Where bytes lie.
//!
//! Invariant: memory of different domains is never added up for a limit; on a device without memory of its own, what it
//! holds lies with the host's.

/// A kind of memory with a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MemoryDomain {
    /// The host's memory: what the process holds.
    #[default]
    Host,
    /// Memory of a device that is not the host's.
    Device,
    /// A file that offloaded values go to.
    Disk,
}

impl MemoryDomain {
    /// All domains, in the order of a table.
    pub const ALL: [MemoryDomain; 3] = [MemoryDomain::Host, MemoryDomain::Device, MemoryDomain::Disk];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryDomain::Host => "host",
            MemoryDomain::Device => "device",
            MemoryDomain::Disk => "disk",
        }
    }
}
