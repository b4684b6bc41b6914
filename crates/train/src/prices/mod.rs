//! Prices measured on this machine, kept in a cache between runs.
//!
//! A file per fingerprint: processor, instruction level, threads, number format, version and build. Invariant: a file that
//! is missing, damaged, of another machine or holds numbers that no machine has is measured anew, never an error; a cache
//! that cannot be written costs the time to measure and nothing else.

pub(crate) mod calibrate;
pub(crate) mod given_prices;
pub(crate) mod spill;

use crate::prices::calibrate::calibrate;
use crate::record::{Machine, build};
use crate::{Precision, TrainError};
use remat_formats::write_atomic;
use remat_plan::{DeviceProfile, Prices};
use remat_step::DeviceOptions;
use remat_step::device::release_freed_memory;
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Of the files' form, and of what is measured: either may change with it.
const SCHEMA: u32 = 3;

/// A file of prices is a few KiB; anything much larger is not one.
pub(crate) const MOST_BYTES: u64 = 1 << 16;

/// Where a profile's prices come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceSource {
    /// Read from the cache.
    Cached,
    /// Measured just now.
    Measured,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheFile {
    schema: u32,
    fingerprint: String,
    prices: Prices,
}

/// The number format that prices are measured in.
pub(crate) fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// The profile with prices from the cache, if it has them.
pub fn cached_profile(options: &DeviceOptions, precision: Precision) -> Option<DeviceProfile> {
    let prices = read(&price_file(options, precision)?, &fingerprint(options, precision))?;
    Some(DeviceProfile { prices, ..options.profile() })
}

/// The profile with prices of this machine: from the cache, or measured now (some seconds, and 340 MiB for so long).
///
/// # Errors
/// Memory that cannot be had.
pub fn measured_profile(
    options: &DeviceOptions,
    precision: Precision,
    anew: bool,
) -> Result<(DeviceProfile, PriceSource), TrainError> {
    if let Some(profile) = cached_profile(options, precision).filter(|_| !anew) {
        return Ok((profile, PriceSource::Cached));
    }
    let profile = calibrated_profile(options, precision)?;
    if let Some(path) = price_file(options, precision) {
        let fingerprint = fingerprint(options, precision);
        let file = CacheFile { schema: SCHEMA, fingerprint, prices: profile.prices.clone() };
        // What cannot be kept is measured again next time.
        let written = path.parent().map(std::fs::create_dir_all);
        if let (Some(Ok(())), Ok(text)) = (written, serde_json::to_vec_pretty(&file)) {
            drop(write_atomic(&path, &text));
        }
    }
    Ok((profile, PriceSource::Measured))
}

/// The profile with prices measured here and now; the cache is neither read nor written.
///
/// # Errors
/// Memory that cannot be had.
pub fn calibrated_profile(options: &DeviceOptions, precision: Precision) -> Result<DeviceProfile, TrainError> {
    let prices = calibrate(options, precision.into())?;
    release_freed_memory();
    Ok(DeviceProfile { prices, ..options.profile() })
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

/// The prices of a file, if they can be trusted.
fn read(path: &std::path::Path, fingerprint: &str) -> Option<Prices> {
    let text = remat_formats::read_file(path, MOST_BYTES).ok()?;
    let cached: CacheFile = serde_json::from_slice(&text).ok()?;
    let same = cached.schema == SCHEMA && cached.fingerprint == fingerprint;
    (same && cached.prices.measured && cached.prices.are_plausible()).then_some(cached.prices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_plan::Rate;

    #[test]
    fn only_what_this_machine_could_have_written_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("prices.json");
        let good = Prices { measured: true, ..Prices::nominal(2) };
        let write = |prices: &Prices, fingerprint: &str, schema| {
            let file = CacheFile { schema, fingerprint: fingerprint.to_string(), prices: prices.clone() };
            std::fs::write(&path, serde_json::to_vec(&file).expect("JSON")).expect("written");
            read(&path, "this")
        };
        assert_eq!(write(&good, "this", SCHEMA), Some(good.clone()));
        assert_eq!(write(&good, "another", SCHEMA), None);
        assert_eq!(write(&good, "this", SCHEMA + 1), None);
        let with = |rate: f64| {
            let mut prices = good.clone();
            prices.rates[3] = Rate { flops_per_second: rate, ..prices.rates[3] };
            prices
        };
        for rate in [0.0, -1.0, 1e300] {
            assert_eq!(write(&with(rate), "this", SCHEMA), None, "{rate}");
        }
        let short = Prices { rates: good.rates[1..].to_vec(), ..good.clone() };
        assert_eq!(write(&short, "this", SCHEMA), None);
        assert_eq!(write(&Prices { measured: false, ..good.clone() }, "this", SCHEMA), None);
        for text in ["", "{", "[]", "{\"schema\": 1}", "\u{0}\u{1}", "null"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(read(&path, "this"), None, "{text:?}");
        }
        std::fs::write(&path, "[".repeat(1 << 20)).expect("written");
        assert_eq!(read(&path, "this"), None);
        assert_eq!(read(folder.path(), "this"), None);
        assert_eq!(read(&folder.path().join("absent"), "this"), None);
    }
}
