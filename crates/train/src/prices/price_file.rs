//! Which file of the cache holds the prices of this machine: one per processor, instruction level, threads, number format,
//! version and build.

use crate::Precision;
use crate::prices::price_cache::{PriceCache, SCHEMA};
use crate::record::machine::Machine;
use crate::record::program::build;
use remat_step::DeviceOptions;
use remat_tensor::DType;
use std::path::PathBuf;

/// The number format that prices are measured in.
pub(crate) fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// What the cache holds.
pub(crate) fn cached(options: &DeviceOptions, precision: Precision) -> Option<PriceCache> {
    PriceCache::read(&price_file(options, precision)?, &fingerprint(options, precision))
}

/// What prices hold for.
pub(crate) fn fingerprint(options: &DeviceOptions, precision: Precision) -> String {
    let machine = Machine::this(&options.level.to_string(), options.threads);
    let (version, commit, build) = build();
    let cpu = machine.cpu.unwrap_or_default();
    let (isa, threads, number) = (machine.isa, machine.threads, dtype(precision));
    let commit = commit.unwrap_or("unknown");
    let cpu = options.card_name().map_or(cpu, str::to_string);
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
