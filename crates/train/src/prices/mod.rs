//! Prices measured on this machine, kept in a cache between runs and corrected by them.
//!
//! A file per fingerprint: processor, instruction level, threads, number format, version and build. Look next at `calibrate`
//! for how they are measured, and at `pace` for how a run holds its steps to them.

pub(crate) mod calibrate;
pub(crate) mod given_prices;
pub(crate) mod pace;
pub(crate) mod price_cache;
pub(crate) mod spill;

use crate::prices::calibrate::{Calibrated, calibrate};
use crate::prices::price_cache::{PriceCache, SCHEMA};
use crate::record::{Machine, build};
use crate::{Precision, TrainError};
use remat_plan::DeviceProfile;
use remat_step::DeviceOptions;
use remat_step::device::release_freed_memory;
use remat_tensor::DType;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub use price_cache::{PriceCorrection, PriceHistory};

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

/// The number format that prices are measured in.
pub(crate) fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
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
    let PriceCache { prices, .. } = cached(options, precision)?;
    Some(DeviceProfile { prices, ..options.profile() })
}

/// How the prices in the cache were come by, if it has them.
pub fn price_history(options: &DeviceOptions, precision: Precision) -> Option<PriceHistory> {
    Some(cached(options, precision)?.history)
}

/// What the cache holds.
pub(crate) fn cached(options: &DeviceOptions, precision: Precision) -> Option<PriceCache> {
    PriceCache::read(&price_file(options, precision)?, &fingerprint(options, precision))
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

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// What prices hold for.
fn fingerprint(options: &DeviceOptions, precision: Precision) -> String {
    let machine = Machine::this(&options.level.to_string(), options.threads);
    let (version, commit, build) = build();
    let cpu = machine.cpu.unwrap_or_default();
    let (isa, threads, number) = (machine.isa, machine.threads, dtype(precision));
    let commit = commit.unwrap_or("unknown");
    format!("{cpu}; {isa}; {threads} threads; {number:?}; remat {version} {commit} {build}; schema {SCHEMA}")
}

/// The file of this machine's prices; `None` where there is no folder for caches.
pub fn price_file(options: &DeviceOptions, precision: Precision) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    // FNV-1a, so that the name is the same in every build.
    let hash = fingerprint(options, precision)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Some(cache.join("remat").join(format!("prices-{hash:016x}.json")))
}
