//! Checkpointing policies by name, as users write them. The compiler turns one into a set of kept values.
//!
//! Invariant: `policy.to_string().parse() == Ok(policy)`.

use crate::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What lives from forward to backward.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// Everything that backward reads is kept; nothing is recomputed.
    #[default]
    None,
    /// Only what enters each region is kept; the last region's values are, too, since backward starts there. Of nested
    /// regions the inner ones are levels: made again from what enters them, which is made again from what enters the outer.
    Full,
    /// As `Full`, with each run of this many consecutive regions, at every level, as one segment.
    Every(usize),
    /// The fastest plan that keeps at most this many bytes from forward to backward, of those that no other beats in memory
    /// and time.
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
            Policy::Budget(bytes) => write!(f, "budget:{}", ByteSize(*bytes)),
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
            return bytes.parse().map(|ByteSize(bytes)| Policy::Budget(bytes)).map_err(refuse);
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

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> String {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Policy;

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
}
