//! `--prices FILE`: what operations and copies cost, as `remat doctor --json` printed it, here or on another machine.
//!
//! Invariant: what is given is neither measured nor looked up, so settings with given prices have one plan wherever it is
//! made, however busy the machine and its disk are. Look next at `prices` for those of this machine.

use crate::prices::price_cache::MOST_BYTES;
use crate::prices::price_file::dtype;
use crate::{Precision, TrainConfig, TrainError};
use remat_formats::SettingName;
use remat_plan::{OpClass, Prices, Rate, SpillPrices};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What is read of the file; the rest describes the machine to people.
#[derive(Deserialize)]
struct PriceFile {
    schema: u32,
    machine: Option<OfMachine>,
    prices: Vec<OfPrecision>,
    offload: Option<SpillPrices>,
}

#[derive(Deserialize)]
struct OfMachine {
    threads: usize,
}

#[derive(Deserialize)]
struct OfPrecision {
    precision: Precision,
    rates: BTreeMap<String, Rate>,
}

/// The prices of the settings' file, if they name one; with those of copies, if the file has them.
///
/// # Errors
/// A file that cannot be read, is of another form, of another number of threads, or lacks the settings' precision.
pub(crate) fn given_prices(config: &TrainConfig) -> Result<Option<Prices>, TrainError> {
    let Some(path) = &config.prices else { return Ok(None) };
    let text = read(path).map_err(|problem| refusal(path, &problem))?;
    let prices = parse(&text, config.number_format(), config.device_options().threads);
    let prices = prices.map_err(|problem| refusal(path, &problem))?;
    match (&config.offload, prices.spill) {
        (Some(folder), None) => {
            let by = format!("write it anew with remat doctor --offload {} --json", folder.display());
            Err(refusal(path, &format!("has no prices of copies, which {} needs; {by}", SettingName("offload"))))
        }
        _ => Ok(Some(prices)),
    }
}

fn refusal(path: &Path, problem: &str) -> TrainError {
    TrainError::BadFlag { key: "prices", problem: format!("{}: {problem}", path.display()) }
}

/// Of a file that a person names, which may be anything.
fn read(path: &Path) -> Result<String, String> {
    let not_read = |error: std::io::Error| format!("{error}; give a file that remat doctor --json wrote");
    let file = File::open(path).map_err(not_read)?;
    if !file.metadata().map_err(not_read)?.is_file() {
        return Err("is not a regular file; give one that remat doctor --json wrote".to_string());
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(not_read)?;
    match text.len() as u64 > MOST_BYTES {
        true => Err(format!("has more than {MOST_BYTES} bytes, and is none that remat doctor --json wrote")),
        false => Ok(text),
    }
}

fn parse(text: &str, precision: Precision, threads: usize) -> Result<Prices, String> {
    let file: PriceFile = serde_json::from_str(text).map_err(|error| format!("{error}; write it anew {BY}"))?;
    if file.schema != 1 {
        return Err(format!("has schema {}, and this version reads 1; write it anew {BY}", file.schema));
    }
    if let Some(of) = file.machine.filter(|machine| machine.threads != threads) {
        let of = of.threads;
        return Err(format!(
            "is of {of} threads and this run of {threads}; add {} {of}, or measure with {threads}",
            SettingName("threads")
        ));
    }
    let format = dtype(precision);
    let found = file.prices.into_iter().find(|prices| prices.precision == precision);
    let found = found.ok_or_else(|| format!("has no prices of {format}; write it anew {BY}"))?;
    let of_class = |class: &OpClass| {
        let name = class.name();
        found
            .rates
            .get(name)
            .copied()
            .ok_or_else(|| format!("has no price of \"{name}\" in {format}; write it anew {BY}"))
    };
    let rates = OpClass::ALL.iter().map(of_class).collect::<Result<Vec<_>, _>>()?;
    let prices = Prices { rates, measured: true, spill: file.offload, file_reads: None, links: None };
    match prices.are_plausible() {
        true => Ok(prices),
        false => {
            Err("no machine has such prices: rates are from 1e5 to 1e19, seconds of an operation below 1".to_string())
        }
    }
}

/// The remedy for most.
const BY: &str = "with remat doctor --json of this version";
