//! A number of bytes as users write it: `1536`, `512MiB`, `1.5GiB`, `8GB`, `3g`.
//!
//! Invariant: `size.to_string().parse() == Ok(size)`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub usize);

/// Units, the longest first where one ends in another. A letter alone is the binary unit, as `ulimit` and systemd have it.
const UNITS: [(&str, u64); 12] = [
    ("TIB", 1 << 40),
    ("GIB", 1 << 30),
    ("MIB", 1 << 20),
    ("KIB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// The binary units as they are written.
const WRITTEN: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for ByteSize {
    type Err = String;

    /// Capital or not. Fractions of a byte are dropped.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("'{text}' is not a number of bytes such as 1536, 512MiB or 1.5GiB");
        let upper = text.to_ascii_uppercase();
        let unit = UNITS.iter().find_map(|(unit, factor)| Some((upper.strip_suffix(unit)?, *factor)));
        let (digits, factor) = unit.unwrap_or_else(|| (upper.strip_suffix('B').unwrap_or(&upper), 1));
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refuse());
        }
        if let Ok(whole) = digits.parse::<u64>() {
            let bytes = whole.checked_mul(factor).and_then(|bytes| usize::try_from(bytes).ok());
            return bytes.map(ByteSize).ok_or_else(|| format!("'{text}' is more than any memory"));
        }
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = digits.parse().ok().filter(|_| plain && factor > 1).ok_or_else(refuse)?;
        let bytes = number * factor as f64;
        if bytes < 9e18 { Ok(ByteSize(bytes as usize)) } else { Err(format!("'{text}' is more than any memory")) }
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        match WRITTEN.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
            None => write!(f, "{bytes}"),
        }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        let of = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("1536", 1536),
            ("10B", 10),
            ("2GB", 2_000_000_000),
            ("3gib", 3 << 30),
            ("3G", 3 << 30),
            ("3g", 3 << 30),
            ("0.5k", 512),
            ("1tb", 1_000_000_000_000),
        ] {
            assert_eq!(of(text), Ok(bytes), "{text}");
            assert_eq!(of(&ByteSize(bytes).to_string()), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "1e3", "1.5", "-1", "1..5MiB", "inf", "NaNGiB", "99999999999TiB", "12 MiB", "3X", "G3"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
