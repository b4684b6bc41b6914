//! `--offload DIR`: what the copy queue costs in that folder, measured, as part of the profile that a run is planned for.
//!
//! Invariant: a profile without a folder has no spill tier, and so no plan of it copies anything. Look next at
//! `remat_step::device::measure_spill` for how a folder is measured.

use crate::{TrainConfig, TrainError};
use remat_plan::{DeviceProfile, Prices, SpillPrices};
use remat_step::device::measure_spill;

/// Prices of the settings' folder, if they name one: a file of 32 MiB is written, read and gone.
///
/// # Errors
/// A folder that cannot be written to.
pub(crate) fn spill_prices(config: &TrainConfig) -> Result<Option<SpillPrices>, TrainError> {
    config.offload.as_deref().map(|folder| Ok(measure_spill(folder)?)).transpose()
}

/// The profile with these prices of copies.
pub(crate) fn with_spill(profile: DeviceProfile, spill: Option<SpillPrices>) -> DeviceProfile {
    DeviceProfile { prices: Prices { spill, ..profile.prices }, ..profile }
}
