//! Prices that a test gives, so that nothing it sees depends on how fast a machine or its disk is, or on what runs beside.
//!
//! Invariant: a file in the form that `remat doctor --json` prints; and no cache is read. Look next at the tests of
//! `doctor`, which hold the program's own output to this form.

// Each of the tests that share this uses a part of it.
#![allow(dead_code)]

use remat_plan::{OpClass, Prices, SpillPrices};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// For `XDG_CACHE_HOME`: a folder that cannot be, so that what this machine's cache holds is not read.
pub const NO_CACHE: &str = "/dev/null/no-cache";

/// Bytes per second out and back of a disk that copies are worth it to, and of one that they are not.
pub const QUICK: SpillPrices = SpillPrices { write_bytes_per_second: 2e9, read_bytes_per_second: 4e9 };
pub const SLOW: SpillPrices = SpillPrices { write_bytes_per_second: 1e6, read_bytes_per_second: 2e6 };

/// The object of a machine whose operations cost what arithmetic says, with such a disk.
pub fn object(disk: SpillPrices) -> Value {
    let prices = Prices::nominal(2);
    let rates: serde_json::Map<String, Value> =
        OpClass::ALL.iter().map(|&class| (class.name().to_string(), json!(prices.rate(class)))).collect();
    let of = |precision: &str| json!({ "precision": precision, "rates": rates });
    json!({ "schema": 1, "prices": [of("f32"), of("bf16")], "offload": disk })
}

/// The object as a file in `folder`, for `--prices`.
pub fn file(folder: &Path, disk: SpillPrices) -> PathBuf {
    let path = folder.join("prices.json");
    std::fs::write(&path, object(disk).to_string()).expect("written");
    path
}
