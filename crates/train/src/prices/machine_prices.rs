//! The prices of this machine: from the cache, or measured now.
//!
//! Look next at `price_file` for where the cache has them and at `calibrate` for how they are measured.

use crate::prices::calibrate::{Calibrated, calibrate};
use crate::prices::price_cache::{PriceCache, PriceHistory, SCHEMA};
use crate::prices::price_file::{cached, fingerprint, price_file};
use crate::{Precision, TrainError};
use remat_plan::DeviceProfile;
use remat_step::DeviceOptions;
use remat_step::device::release_freed_memory;

/// Where a profile's prices come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceSource {
    /// Read from the cache.
    Cached,
    /// Measured just now.
    Measured,
    /// Measured just now, while the machine did something else: too high, perhaps.
    MeasuredWhileBusy,
}

/// When prices are measured that the cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measuring {
    /// Where it holds none.
    IfMissing,
    /// Also where it holds some that were measured on a busy machine and that no run has corrected.
    IfDoubtful,
    /// In any case.
    Anew,
}

/// The profile with prices from the cache, if it has them.
pub fn cached_profile(options: &DeviceOptions, precision: Precision) -> Option<DeviceProfile> {
    if let Some(prices) = options.published_prices(precision == Precision::Bf16) {
        return Some(DeviceProfile { prices, ..options.profile() });
    }
    let PriceCache { prices, .. } = cached(options, precision)?;
    Some(DeviceProfile { prices, ..options.profile() })
}

/// How the prices in the cache were come by, if it has them.
pub fn price_history(options: &DeviceOptions, precision: Precision) -> Option<PriceHistory> {
    Some(cached(options, precision)?.history)
}

/// The profile with prices of this machine: from the cache, or measured now (some seconds, and 340 MiB for so long).
///
/// # Errors
/// Memory that cannot be had.
pub fn measured_profile(
    options: &DeviceOptions,
    precision: Precision,
    when: Measuring,
) -> Result<(DeviceProfile, PriceSource), TrainError> {
    let is_good_enough = |cached: &PriceCache| match when {
        Measuring::IfMissing => true,
        Measuring::IfDoubtful => !cached.is_doubtful(),
        Measuring::Anew => false,
    };
    if let Some(cached) = cached(options, precision).filter(is_good_enough) {
        return Ok((DeviceProfile { prices: cached.prices, ..options.profile() }, PriceSource::Cached));
    }
    let Calibrated { prices, history } = calibrate(options, precision.into())?;
    release_freed_memory();
    let source = if history.busy { PriceSource::MeasuredWhileBusy } else { PriceSource::Measured };
    if let Some(path) = price_file(options, precision) {
        let fingerprint = fingerprint(options, precision);
        // What cannot be kept is measured again next time.
        PriceCache { schema: SCHEMA, fingerprint, prices: prices.clone(), history }.write(&path);
    }
    Ok((DeviceProfile { prices, ..options.profile() }, source))
}

/// The profile with prices measured here and now; the cache is neither read nor written.
///
/// # Errors
/// Memory that cannot be had.
pub fn calibrated_profile(options: &DeviceOptions, precision: Precision) -> Result<DeviceProfile, TrainError> {
    let Calibrated { prices, .. } = calibrate(options, precision.into())?;
    release_freed_memory();
    Ok(DeviceProfile { prices, ..options.profile() })
}
