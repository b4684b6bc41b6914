//! Checkpointing policies by name, as users write them. The compiler turns one into a set of kept values.
//!
//! Invariant: `policy.to_string().parse() == Ok(policy)`.

use std::fmt;
use std::str::FromStr;

/// What lives from forward to backward.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Everything that backward reads is kept; nothing is recomputed.
    #[default]
    None,
    /// Only what enters each region is kept; the last region's values are, too, since backward starts there.
    Full,
    /// As `Full`, with each run of this many consecutive regions as one segment.
    Every(usize),
    /// The fastest plan that keeps at most this many bytes from forward to backward.
    Budget(usize),
    /// The fastest plan whose arena fits the cap given beside the policy; without a cap, the fastest of all.
    Auto,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::None => f.write_str("none"),
            Policy::Full => f.write_str("full"),
            Policy::Every(regions) => write!(f, "every:{regions}"),
            Policy::Budget(bytes) => write!(f, "budget:{}", format_bytes(*bytes)),
            Policy::Auto => f.write_str("auto"),
        }
    }
}

const EXPECTED: &str = "expected none, full, every:N with N the number of blocks in a segment, budget:BYTES (for instance \
budget:512MiB), or auto";

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Policy::None),
            "full" => return Ok(Policy::Full),
            "auto" => return Ok(Policy::Auto),
            _ => {}
        }
        if let Some(bytes) = text.strip_prefix("budget:") {
            let refuse = |problem| format!("checkpointing policy '{text}': {problem}; {EXPECTED}");
            return parse_bytes(bytes).map(Policy::Budget).map_err(refuse);
        }
        let Some(count) = text.strip_prefix("every:") else {
            return Err(format!("unknown checkpointing policy '{text}': {EXPECTED}"));
        };
        match count.parse() {
            Ok(regions) if regions > 0 => Ok(Policy::Every(regions)),
            _ => Err(format!("checkpointing policy '{text}': '{count}' is not a positive number; {EXPECTED}")),
        }
    }
}

const UNITS: [(&str, u64); 7] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Reads a number of bytes as users write it: `1536`, `512MiB`, `1.5GiB`, `8GB`. Fractions of a byte are dropped.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let refuse = || format!("'{text}' is not a number of bytes such as 1536, 512MiB or 1.5GiB");
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = unit.or_else(|| Some((text.strip_suffix('B').unwrap_or(text), 1))).ok_or_else(refuse)?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(refuse());
    }
    if let Ok(whole) = digits.parse::<u64>() {
        let bytes = whole.checked_mul(factor).and_then(|bytes| usize::try_from(bytes).ok());
        return bytes.ok_or_else(|| format!("'{text}' is more than any memory"));
    }
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = digits.parse().ok().filter(|_| plain && factor > 1).ok_or_else(refuse)?;
    let bytes = number * factor as f64;
    if bytes < 9e18 { Ok(bytes as usize) } else { Err(format!("'{text}' is more than any memory")) }
}

/// Bytes in the largest binary unit that divides them, so that [`parse_bytes`] gives them back exactly.
pub fn format_bytes(bytes: usize) -> String {
    let unit = UNITS[..4].iter().find(|(_, factor)| bytes > 0 && (bytes as u64).is_multiple_of(*factor));
    unit.map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes as u64 / factor))
}

#[cfg(test)]
mod tests {
    use super::{Policy, parse_bytes};

    #[test]
    fn names_round_trip() {
        let budgets = [0, 1, 1023, 1024, 1536 << 20, 3 << 30, usize::MAX].map(Policy::Budget);
        let named = [Policy::None, Policy::Full, Policy::Every(1), Policy::Every(12), Policy::Auto];
        for policy in named.into_iter().chain(budgets) {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for wrong in ["", "every", "every:", "every:0", "every:-1", "all", "Full", "budget:", "budget:x", "budget:-1"] {
            let message = wrong.parse::<Policy>().expect_err("not a policy");
            assert!(message.contains("expected none, full, every:N"), "{message}");
        }
    }

    #[test]
    fn bytes_are_read_with_and_without_unit() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("1536"), Ok(1536));
        assert_eq!(parse_bytes("10B"), Ok(10));
        assert_eq!(parse_bytes("2GB"), Ok(2_000_000_000));
        for wrong in ["", "GiB", "1e3", "1.5", "-1", "1..5MiB", "inf", "NaNGiB", "99999999999TiB", "12 MiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
