//! How many warps of a kernel a multiprocessor has at a time, by what they take of it.
//!
//! Figures are those of "Technical Specifications per Compute Capability" in the CUDA C++ Programming Guide. Registers are given to warps
//! by 256, shared memory to blocks by 128 bytes, of which the driver takes 1 KiB for each block.

/// One architecture.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// As ptxas takes it.
    pub name: &'static str,
    /// Most warps of a multiprocessor.
    warps: u32,
    /// Most blocks.
    blocks: u32,
    /// Shared memory of a multiprocessor, in KiB.
    shared_kib: u32,
}

/// Where kernels will run: A100, RTX 30, RTX 40, H100, RTX 50.
pub const ARCHITECTURES: [Architecture; 5] = [
    Architecture { name: "sm_80", warps: 64, blocks: 32, shared_kib: 164 },
    Architecture { name: "sm_86", warps: 48, blocks: 16, shared_kib: 100 },
    Architecture { name: "sm_89", warps: 48, blocks: 24, shared_kib: 100 },
    Architecture { name: "sm_90", warps: 64, blocks: 32, shared_kib: 228 },
    Architecture { name: "sm_120", warps: 48, blocks: 24, shared_kib: 100 },
];

const REGISTERS: u32 = 64 << 10;

impl Architecture {
    /// Warps on a multiprocessor, in parts of all that it may have; 0 if not one block has room.
    pub fn occupancy(&self, threads: u32, registers: u32, shared_bytes: u32) -> f64 {
        let warps = threads.div_ceil(32).max(1);
        let by_registers = REGISTERS / (registers.max(1) * 32).next_multiple_of(256) / warps;
        let by_shared = (self.shared_kib << 10) / (shared_bytes.next_multiple_of(128) + 1024);
        let blocks = (self.warps / warps).min(self.blocks).min(by_registers).min(by_shared);
        f64::from(blocks * warps) / f64::from(self.warps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupancies_are_those_of_the_published_rules() {
        let of = |name: &str, threads, registers, shared| {
            let found = ARCHITECTURES.iter().find(|architecture| architecture.name == name);
            found.expect("known").occupancy(threads, registers, shared)
        };
        assert_eq!(of("sm_80", 256, 32, 0), 1.0);
        // Two blocks of eight warps by registers.
        assert_eq!(of("sm_80", 256, 128, 0), 0.25);
        assert_eq!(of("sm_86", 256, 128, 48 << 10), 16.0 / 48.0);
        // One by shared memory; none that has more than there is.
        assert_eq!(of("sm_86", 256, 128, 64 << 10), 8.0 / 48.0);
        assert_eq!(of("sm_86", 256, 128, 100 << 10), 0.0);
        // Sixteen blocks of a warp at most.
        assert_eq!(of("sm_86", 32, 16, 0), 16.0 / 48.0);
    }
}
