//! Which instructions the kernels may use. Invariant: one level gives the same bits on every run, with any number of
//! threads; different levels may round differently. Look next at `simd` for what a level provides.

use std::fmt;
use std::str::FromStr;

/// An instruction set that the kernels are compiled for, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain f32 arithmetic, one rounding per operation; runs anywhere.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// AVX-512 with the bf16 dot product, which matrix products of two bf16 operands use.
    Avx512Bf16,
}

impl Level {
    /// All levels, weakest first.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16];

    /// The strongest level that this machine runs.
    pub fn detect() -> Level {
        Level::ALL.into_iter().rev().find(|level| level.is_available()).unwrap_or(Level::Portable)
    }

    /// Whether this machine runs the level.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = || {
            avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match self {
            Level::Portable => true,
            Level::Avx2 => avx2(),
            Level::Avx512 => avx512(),
            Level::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    /// Whether this machine runs the level.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == Level::Portable
    }

    /// Whether products of two bf16 operands use the bf16 dot-product instruction.
    pub fn has_bf16_dot(self) -> bool {
        self == Level::Avx512Bf16
    }

    /// The name used in all printed output.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512-bf16",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Level::ALL
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or_else(|| format!("unknown kernel level '{text}' (known: portable, avx2, avx512, avx512-bf16)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detected_level_is_available_and_names_round_trip() {
        assert!(Level::detect().is_available());
        assert!(Level::Portable.is_available());
        for level in Level::ALL {
            assert_eq!(level.name().parse::<Level>(), Ok(level));
        }
        assert!("sse9".parse::<Level>().unwrap_err().contains("known: portable"));
    }
}
