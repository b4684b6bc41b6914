//! Cards as their maker publishes them: what `plan --device NAME` plans for where there is no card.
//!
//! Invariant: figures are NVIDIA's own, with the addresses where they stand; nobody measured them here. Rates are dense ones of bf16
//! with sums in f32, without sparsity; bandwidths are those of the board. Memory is what `nvidia-smi` shows of such a card, by the
//! least figure that is commonly reported: up to one sixteenth below the name's, where error correction takes some. Times that
//! follow from them are estimates.
//!
//! Those pages could not be opened where this table was written. Bandwidth and f32 rate of the RTX 3060, RTX 5090, A10, L4 and H100
//! and the H100's bf16 rate agree with what others publish of them; **the other figures are not confirmed by a second source**.

use crate::driver::Card;
use crate::rules::RULES;
use remat_plan::{DeviceProfile, OpClass, Prices, ProgramSizes, Rate};

/// A published card.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedCard {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What its maker calls it.
    pub title: &'static str,
    /// Compute capability.
    pub capability: [u32; 2],
    /// Memory in MiB, as the driver counts it.
    pub memory_mib: usize,
    /// Memory bandwidth in GB/s.
    pub bandwidth_gb_s: f64,
    /// Dense bf16 products with sums in f32, in TFLOP/s.
    pub bf16_tflop_s: f64,
    /// f32 products without tensor cores, in TFLOP/s.
    pub f32_tflop_s: f64,
    /// Addresses of the maker's pages that the figures are of.
    pub sources: Sources,
}

/// Where a card's figures stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    /// The product's page or data sheet: memory, bandwidth, clock, cores.
    pub product: &'static str,
    /// The architecture's paper, where the rate of tensor cores stands there; none where it follows from cores and clock, or stands
    /// on the product's page.
    pub rates: Option<&'static str>,
    /// Whether the bf16 rate is a rule's and not the maker's own: see [`CARDS`].
    pub derived: bool,
}

const AMPERE: &str = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf";
const ADA: &str = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf";
const BLACKWELL: &str =
    "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf";

/// All figures are on one page.
const fn page(product: &'static str) -> Sources {
    Sources { product, rates: None, derived: false }
}

/// Rates are in a paper.
const fn paper(product: &'static str, rates: &'static str) -> Sources {
    Sources { product, rates: Some(rates), derived: false }
}

/// Rates follow from cores and clock.
const fn derived(product: &'static str) -> Sources {
    Sources { product, rates: None, derived: true }
}

/// Rates: GB/s of memory, TFLOP/s of bf16 and of f32.
const fn card(
    name: &'static str,
    title: &'static str,
    capability: [u32; 2],
    memory_mib: usize,
    [bandwidth_gb_s, bf16_tflop_s, f32_tflop_s]: [f64; 3],
    sources: Sources,
) -> PublishedCard {
    PublishedCard { name, title, capability, memory_mib, bandwidth_gb_s, bf16_tflop_s, f32_tflop_s, sources }
}

/// All of them, by memory, then by bandwidth. Of GeForce cards whose tensor rate is not published by itself it is four times 128
/// operations for each multiprocessor and cycle at the published boost clock, as it is of those whose is.
#[rustfmt::skip]
pub const CARDS: &[PublishedCard] = &[
    card("rtx-3060", "GeForce RTX 3060 12 GB", [8, 6], 12_053, [360.0, 25.5, 12.7], derived("https://www.nvidia.com/en-us/geforce/graphics-cards/30-series/rtx-3060-3060ti/")),
    card("rtx-5080", "GeForce RTX 5080", [12, 0], 16_303, [960.0, 112.6, 56.3], paper("https://www.nvidia.com/en-us/geforce/graphics-cards/50-series/rtx-5080/", BLACKWELL)),
    card("rtx-4070-ti-super", "GeForce RTX 4070 Ti SUPER", [8, 9], 16_376, [672.0, 88.2, 44.1], derived("https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4070-family/")),
    card("rtx-4080", "GeForce RTX 4080", [8, 9], 16_376, [716.8, 97.5, 48.7], paper("https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4080-family/", ADA)),
    card("rtx-4060-ti-16gb", "GeForce RTX 4060 Ti 16 GB", [8, 9], 16_380, [288.0, 44.1, 22.1], derived("https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4060-4060ti/")),
    card("a10", "A10", [8, 6], 23_028, [600.0, 125.0, 31.2], page("https://www.nvidia.com/en-us/data-center/products/a10-gpu/")),
    card("l4", "L4", [8, 9], 23_034, [300.0, 121.0, 30.3], page("https://www.nvidia.com/en-us/data-center/l4/")),
    card("rtx-3090", "GeForce RTX 3090", [8, 6], 24_268, [936.0, 71.0, 35.6], paper("https://www.nvidia.com/en-us/geforce/graphics-cards/30-series/rtx-3090-3090ti/", AMPERE)),
    card("rtx-4090", "GeForce RTX 4090", [8, 9], 24_564, [1008.0, 165.2, 82.6], paper("https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4090/", ADA)),
    card("rtx-5090", "GeForce RTX 5090", [12, 0], 32_607, [1792.0, 209.5, 104.8], paper("https://www.nvidia.com/en-us/geforce/graphics-cards/50-series/rtx-5090/", BLACKWELL)),
    card("a100-40gb", "A100 40 GB", [8, 0], 40_536, [1555.0, 312.0, 19.5], page("https://www.nvidia.com/en-us/data-center/a100/")),
    card("l40s", "L40S", [8, 9], 46_068, [864.0, 362.0, 91.6], page("https://www.nvidia.com/en-us/data-center/l40s/")),
    card("a100-80gb", "A100 80 GB", [8, 0], 81_251, [2039.0, 312.0, 19.5], page("https://www.nvidia.com/en-us/data-center/a100/")),
    card("h100", "H100 SXM", [9, 0], 81_559, [3350.0, 989.0, 67.0], page("https://www.nvidia.com/en-us/data-center/h100/")),
    card("h200", "H200 SXM", [9, 0], 143_771, [4800.0, 989.0, 67.0], page("https://www.nvidia.com/en-us/data-center/h200/")),
];

/// Memory that a context, the driver and a desktop take of a card, as far as can be said without one.
pub const RESERVED_BYTES: usize = 512 << 20;

/// Parts of the published rates that are taken for reached: of memory four fifths, of products a half.
const REACHED: [f64; 2] = [0.8, 0.5];
/// Seconds of a launch.
const LAUNCH_SECONDS: f64 = 5e-6;

/// The card of this name.
pub fn published(name: &str) -> Option<&'static PublishedCard> {
    CARDS.iter().find(|card| card.name == name)
}

impl PublishedCard {
    /// As a driver would describe it.
    pub fn card(&self) -> Card {
        let memory_bytes = self.memory_mib << 20;
        let shared_kib = match self.capability {
            [8, 0] => 163,
            [9, _] => 227,
            _ => 99,
        };
        let (name, capability) = (self.title.to_string(), self.capability);
        Card { name, capability, memory_bytes, shared_bytes: shared_kib << 10 }
    }

    /// What the compiler plans by: its memory less what is reserved, and prices from the published rates. `narrow` where
    /// activations are bf16.
    pub fn profile(&self, narrow: bool) -> DeviceProfile {
        let card = self.card();
        DeviceProfile {
            name: format!("cuda {}", self.name),
            threads: 1,
            own_memory_bytes: Some(card.memory_bytes - RESERVED_BYTES),
            executor_bytes: 0,
            program: ProgramSizes::default(),
            rules: RULES,
            prices: self.prices(narrow),
        }
    }

    /// Times of ops from the published rates.
    pub fn prices(&self, narrow: bool) -> Prices {
        let [of_memory, of_products] = REACHED;
        let tflop_s = if narrow { self.bf16_tflop_s } else { self.f32_tflop_s };
        let rate = Rate {
            flops_per_second: of_products * tflop_s * 1e12,
            bytes_per_second: of_memory * self.bandwidth_gb_s * 1e9,
            // Exponentials and decoded weights: a sixteenth of f32 operations.
            inner_per_second: self.f32_tflop_s * 1e12 / 16.0,
            overhead_seconds: LAUNCH_SECONDS,
        };
        Prices {
            rates: OpClass::ALL.iter().map(|_| rate).collect(),
            measured: false,
            spill: None,
            file_reads: None,
            links: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_prices_are_plausible() {
        for pair in CARDS.windows(2) {
            let key = |card: &PublishedCard| (card.memory_mib, card.bandwidth_gb_s);
            assert!(key(&pair[0]) < key(&pair[1]), "{} before {}", pair[0].name, pair[1].name);
        }
        for card in CARDS {
            assert!(published(card.name) == Some(card) && card.card().capability >= crate::driver::OLDEST);
            assert!([true, false].into_iter().all(|narrow| card.prices(narrow).are_plausible()), "{}", card.name);
            assert!(
                card.sources.product.starts_with("https://www.nvidia.com/") && card.bf16_tflop_s > card.f32_tflop_s
            );
        }
    }
}
