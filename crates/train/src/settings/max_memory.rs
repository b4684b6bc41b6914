//! The setting `max-memory`: how much of each kind of memory a run may take, as `host=6GiB,disk=40GiB`.
//!
//! Invariant: what is read is written back as it is understood, so that `config.toml` says the same.

use remat_plan::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Limits by kind of memory; what is not named has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaxMemory {
    /// Of the whole process, as the setting `memory`.
    pub host: Option<ByteSize>,
    /// Of files that weights and kept values go to.
    pub disk: Option<ByteSize>,
}

impl FromStr for MaxMemory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = MaxMemory::default();
        for part in text.split(',') {
            let Some((kind, size)) = part.split_once('=') else {
                return Err(format!("'{part}' is no kind of memory with its limit, as host=6GiB or disk=40GiB"));
            };
            let limit = match kind.trim() {
                // As accelerate calls it.
                "host" | "cpu" => &mut limits.host,
                "disk" => &mut limits.disk,
                kind => return Err(format!("there is no memory '{kind}': give host (or cpu), disk or both")),
            };
            if limit.replace(size.trim().parse()?).is_some() {
                return Err(format!("{} is given twice", kind.trim()));
            }
        }
        Ok(limits)
    }
}

impl fmt::Display for MaxMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("host", self.host), ("disk", self.disk)];
        let parts = parts.into_iter().filter_map(|(kind, size)| Some(format!("{kind}={}", size?)));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

impl TryFrom<String> for MaxMemory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MaxMemory> for String {
    fn from(limits: MaxMemory) -> String {
        limits.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        let of = |text: &str| text.parse::<MaxMemory>();
        let both = MaxMemory { host: Some(ByteSize(6 << 30)), disk: Some(ByteSize(40_000_000_000)) };
        assert_eq!(of("host=6GiB,disk=40GB"), Ok(both));
        assert_eq!(of("disk=40GB, cpu=6GiB"), Ok(both));
        assert_eq!(of("disk=1KiB"), Ok(MaxMemory { host: None, disk: Some(ByteSize(1 << 10)) }));
        assert_eq!(both.to_string().parse(), Ok(both));
        for bad in ["", "6GiB", "host=", "host=x", "gpu=1GiB", "0=1GiB", "host=1GiB,cpu=2GiB", "host=1GiB,"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
