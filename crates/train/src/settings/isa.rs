//! The instruction sets that a user can ask for, by the names that are printed.
//!
//! Invariant: one per level of the kernels, under the level's own name. Look next at `remat_step::device::Level`.

use crate::TrainError;
use remat_step::DeviceOptions;
use remat_step::device::Level;
use serde::{Deserialize, Serialize};

/// Instruction set of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Plain arithmetic; runs anywhere.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512.
    Avx512,
    /// AVX-512 with the bf16 dot product.
    #[serde(rename = "avx512-bf16")]
    #[value(name = "avx512-bf16")]
    Avx512Bf16,
}

impl From<Isa> for Level {
    fn from(isa: Isa) -> Self {
        match isa {
            Isa::Portable => Level::Portable,
            Isa::Avx2 => Level::Avx2,
            Isa::Avx512 => Level::Avx512,
            Isa::Avx512Bf16 => Level::Avx512Bf16,
        }
    }
}

/// As many as the process may use.
pub(crate) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The device of these settings: with so many threads, or all, and with the instruction set asked for, or the strongest.
///
/// # Errors
/// An instruction set that this machine does not have.
pub fn device_options(threads: Option<usize>, isa: Option<Isa>) -> Result<DeviceOptions, TrainError> {
    let options = DeviceOptions::cpu(threads.unwrap_or_else(all_threads));
    let level = isa.map_or(options.level, Level::from);
    if !level.is_available() {
        let rule = "an instruction set of this machine; leave it out for the strongest";
        return Err(TrainError::OutOfRange { key: "isa", value: level.to_string(), rule });
    }
    Ok(options.at_level(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_level_can_be_asked_for_by_its_own_name() {
        let levels = Isa::value_variants().iter().map(|&isa| Level::from(isa));
        assert_eq!(levels.collect::<Vec<_>>(), Level::ALL);
        for isa in Isa::value_variants() {
            let name = Level::from(*isa).name();
            assert_eq!(isa.to_possible_value().expect("none is hidden").get_name(), name);
            assert_eq!(serde_json::to_value(isa).expect("a string"), name);
        }
    }
}
