//! The profile that a run is planned for, without measuring operations: given prices, or the cache's, or arithmetic's; and
//! with `--offload DIR`, what copies to that folder cost, given or measured.
//!
//! Invariant: a profile without a folder has no spill tier, and so no plan of it copies anything. Look next at
//! `remat_cpu::measure_spill` for how a folder is measured.

use crate::given_prices::given_prices;
use crate::prices::cached_profile;
use crate::{TrainConfig, TrainError};
use remat_cpu::{CpuOptions, measure_spill};
use remat_plan::{DeviceProfile, Prices, SpillPrices};

/// What is known of the machine for these settings.
///
/// # Errors
/// Given prices that cannot be read; a folder that cannot be written to.
pub(crate) fn known_profile(config: &TrainConfig, options: &CpuOptions) -> Result<DeviceProfile, TrainError> {
    let given = given_prices(config)?;
    let spill = spill_prices(config, given.as_ref())?;
    let profile = match given {
        Some(prices) => DeviceProfile { prices, ..options.profile() },
        None => cached_profile(options, config.precision).unwrap_or_else(|| options.profile()),
    };
    Ok(with_spill(profile, spill))
}

/// Prices of the settings' folder, if they name one: the given ones, or a file of 32 MiB is written, read and gone.
///
/// # Errors
/// A folder that cannot be written to.
pub(crate) fn spill_prices(config: &TrainConfig, given: Option<&Prices>) -> Result<Option<SpillPrices>, TrainError> {
    let Some(folder) = &config.offload else { return Ok(None) };
    let spill = given.map_or_else(|| measure_spill(folder).map(Some), |prices| Ok(prices.spill))?;
    Ok(spill)
}

/// The profile with these prices of copies.
pub(crate) fn with_spill(profile: DeviceProfile, spill: Option<SpillPrices>) -> DeviceProfile {
    DeviceProfile { prices: Prices { spill, ..profile.prices }, ..profile }
}
