//! Which biases of a base are trained beside adapters, under PEFT's words.
//!
//! Invariant: a word stands here and nowhere else. Look next at `trained_base` for what it comes to.

use std::fmt;
use std::str::FromStr;

/// Which biases are trained beside adapters: PEFT's `bias`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrainedBiases {
    /// None.
    #[default]
    None,
    /// Every bias of the model, those of norms, too.
    All,
    /// Those of the linears that have an adapter.
    LoraOnly,
}

impl TrainedBiases {
    const ALL: [(TrainedBiases, &'static str); 3] =
        [(TrainedBiases::None, "none"), (TrainedBiases::All, "all"), (TrainedBiases::LoraOnly, "lora_only")];
}

impl fmt::Display for TrainedBiases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = TrainedBiases::ALL.iter().find(|(biases, _)| biases == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

impl FromStr for TrainedBiases {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = TrainedBiases::ALL.iter().find(|(_, word)| *word == text).map(|(biases, _)| *biases);
        found.ok_or_else(|| format!("is {text:?}; it must be none, all or lora_only"))
    }
}
