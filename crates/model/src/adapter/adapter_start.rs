//! What adapters start with as a whole, under the words of PEFT's `init_lora_weights`.
//!
//! Invariant: a word stands here and nowhere else. Look next at `start` for the plain ones and at `origin` for those that take
//! their start out of the base's weights.

use std::fmt;
use std::str::FromStr;

/// What the matrices of adapters start with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AdapterStart {
    /// A uniform within ±1/√in, B zero.
    #[default]
    Default,
    /// A normal with deviation 1/r, B zero.
    Gaussian,
    /// The largest singular values and vectors of the base's weight, which is left without them (Meng et al., *PiSSA*, 2024);
    /// to convergence, or from so many iterations of a randomised method (Halko et al., 2011).
    Pissa(Option<usize>),
    /// The first columns and rows of the QR decomposition of the base's weight, which is left without them (Büyükakyüz,
    /// *OLoRA*, 2024).
    Olora,
}

/// More iterations are a slip.
const MOST_ITERATIONS: usize = 1000;
const NITER: &str = "pissa_niter_";

impl AdapterStart {
    /// Whether the base's weights are left without what adapters start with.
    pub fn takes_from_base(self) -> bool {
        match self {
            AdapterStart::Default | AdapterStart::Gaussian => false,
            AdapterStart::Pissa(_) | AdapterStart::Olora => true,
        }
    }
}

impl fmt::Display for AdapterStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdapterStart::Default => f.write_str("default"),
            AdapterStart::Gaussian => f.write_str("gaussian"),
            AdapterStart::Pissa(None) => f.write_str("pissa"),
            AdapterStart::Pissa(Some(iterations)) => write!(f, "{NITER}{iterations}"),
            AdapterStart::Olora => f.write_str("olora"),
        }
    }
}

impl FromStr for AdapterStart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let iterations = |text: &str| text.parse().ok().filter(|&iterations| iterations <= MOST_ITERATIONS);
        match text {
            "default" | "true" => Ok(AdapterStart::Default),
            "gaussian" => Ok(AdapterStart::Gaussian),
            "pissa" => Ok(AdapterStart::Pissa(None)),
            "olora" => Ok(AdapterStart::Olora),
            _ => text.strip_prefix(NITER).and_then(iterations).map(|n| AdapterStart::Pissa(Some(n))).ok_or_else(|| {
                format!("is {text:?}; it must be default, gaussian, pissa, {NITER}N with N up to {MOST_ITERATIONS}, or olora")
            }),
        }
    }
}
