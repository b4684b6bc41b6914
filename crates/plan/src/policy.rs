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
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::None => f.write_str("none"),
            Policy::Full => f.write_str("full"),
            Policy::Every(regions) => write!(f, "every:{regions}"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Policy::None),
            "full" => return Ok(Policy::Full),
            _ => {}
        }
        let expected = "expected none, full or every:N, with N the number of blocks in a segment";
        let Some(count) = text.strip_prefix("every:") else {
            return Err(format!("unknown checkpointing policy '{text}': {expected}"));
        };
        match count.parse() {
            Ok(regions) if regions > 0 => Ok(Policy::Every(regions)),
            _ => Err(format!("checkpointing policy '{text}': '{count}' is not a positive number; {expected}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Policy;

    #[test]
    fn names_round_trip() {
        for policy in [Policy::None, Policy::Full, Policy::Every(1), Policy::Every(12)] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for wrong in ["", "every", "every:", "every:0", "every:-1", "all", "Full"] {
            let message = wrong.parse::<Policy>().expect_err("not a policy");
            assert!(message.contains("expected none, full or every:N"), "{message}");
        }
    }
}
