//! Philox4x32-10, the counter-based generator behind dropout, initialisation and shuffling.
//!
//! Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
//! Invariant: a number is a pure function of (key, stream, element), so a mask is never stored: it is computed
//! again wherever it is needed, by any thread, in any order.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// A keyed generator. Counter words are (element block low, element block high, stream low, stream high).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Philox {
    /// A generator for one key and one stream. Distinct streams of one key are independent.
    pub fn new(key: u64, stream: u64) -> Self {
        Philox { key: [key as u32, (key >> 32) as u32], stream: [stream as u32, (stream >> 32) as u32] }
    }

    /// The generator of the random ops: `rng` is the runtime input (seed low, seed high, step, micro-batch),
    /// `stream` the hash of the op's stable name.
    pub fn for_op(rng: [u32; 4], stream: u64) -> Self {
        let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
        let turn = u64::from(rng[2]) | u64::from(rng[3]) << 32;
        // One Philox call mixes step and micro-batch into the key, so that consecutive steps share no structure.
        let mixed = Philox::new(seed, turn).block(stream);
        Philox::new(u64::from(mixed[0]) | u64::from(mixed[1]) << 32, stream)
    }

    /// Four 32-bit numbers for block `index`; element `i` of a tensor is word `i % 4` of block `i / 4`.
    #[inline]
    pub fn block(&self, index: u64) -> [u32; 4] {
        let mut counter = [index as u32, (index >> 32) as u32, self.stream[0], self.stream[1]];
        let mut key = self.key;
        for _ in 0..10 {
            let low = u64::from(counter[0]) * u64::from(MULTIPLIER[0]);
            let high = u64::from(counter[2]) * u64::from(MULTIPLIER[1]);
            counter = [
                (high >> 32) as u32 ^ counter[1] ^ key[0],
                high as u32,
                (low >> 32) as u32 ^ counter[3] ^ key[1],
                low as u32,
            ];
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        counter
    }

    /// `N` consecutive blocks from block `first` on, word by word: word `w` of block `first + b` is `[w][b]`.
    ///
    /// The same numbers as `block`, laid out so that the compiler can use vector registers.
    #[inline(always)]
    pub fn blocks<const N: usize>(&self, first: u64) -> [[u32; N]; 4] {
        let index = |b: usize| first.wrapping_add(b as u64);
        let mut c0: [u32; N] = std::array::from_fn(|b| index(b) as u32);
        let mut c1: [u32; N] = std::array::from_fn(|b| (index(b) >> 32) as u32);
        let (mut c2, mut c3) = ([self.stream[0]; N], [self.stream[1]; N]);
        let mut key = self.key;
        for _ in 0..10 {
            for (((c0, c1), c2), c3) in c0.iter_mut().zip(&mut c1).zip(&mut c2).zip(&mut c3) {
                let low = u64::from(*c0) * u64::from(MULTIPLIER[0]);
                let high = u64::from(*c2) * u64::from(MULTIPLIER[1]);
                *c0 = (high >> 32) as u32 ^ *c1 ^ key[0];
                *c1 = high as u32;
                *c2 = (low >> 32) as u32 ^ *c3 ^ key[1];
                *c3 = low as u32;
            }
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        [c0, c1, c2, c3]
    }

    /// The 32-bit number of one element.
    #[inline]
    pub fn word(&self, element: u64) -> u32 {
        self.block(element / 4)[(element % 4) as usize]
    }

    /// A uniform number in [0, 1) with 24 random bits.
    #[inline]
    pub fn uniform(&self, element: u64) -> f32 {
        (self.word(element) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A standard normal number by Box and Muller's transform of two words of one block.
    pub fn normal(&self, element: u64) -> f32 {
        let words = self.block(element);
        let u1 = (f64::from(words[0]) + 1.0) / 4_294_967_296.0;
        let u2 = f64::from(words[1]) / 4_294_967_296.0;
        ((-2.0 * u1.ln()).sqrt() * (std::f64::consts::TAU * u2).cos()) as f32
    }
}

impl Philox {
    /// Fills `target` with elements `first`, `first + 1`, … of nearly normal numbers: the sum of a word's four bytes, scaled
    /// to the deviation. Far cheaper than logarithms, for billions of numbers. `first` must be a multiple of four.
    pub fn nearly_normal(&self, first: u64, deviation: f32, target: &mut [f32]) {
        const BLOCKS: usize = 16;
        debug_assert!(first.is_multiple_of(4));
        // Of one byte: (256^2 - 1) / 12; the mean of four is 510.
        let scale = deviation / (4.0 * 65535.0 / 12.0f32).sqrt();
        let number = |word: u32| {
            let pairs = (word & 0x00ff_00ff) + (word >> 8 & 0x00ff_00ff);
            (((pairs & 0xffff) + (pairs >> 16)) as f32 - 510.0) * scale
        };
        for (index, numbers) in target.chunks_mut(4 * BLOCKS).enumerate() {
            let words = self.blocks::<BLOCKS>(first / 4 + (index * BLOCKS) as u64);
            for (at, to) in numbers.iter_mut().enumerate() {
                *to = number(words[at % 4][at / 4]);
            }
        }
    }
}

/// A stable 64-bit stream number for a name (FNV-1a), so that a value's randomness follows its name, not its position.
pub fn stream_of_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_reference_implementation() {
        // Random123's kat_vectors, philox4x32 10 rounds.
        let zero = Philox::new(0, 0).block(0);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox::new(u64::MAX, u64::MAX).block(u64::MAX);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn many_blocks_at_once_are_the_same_numbers() {
        let philox = Philox::new(11, 13);
        for first in [0, 5, u64::from(u32::MAX) - 3] {
            let words = philox.blocks::<9>(first);
            for (b, block) in (0..9).map(|b| (b, philox.block(first + b as u64))) {
                assert_eq!(words.map(|word| word[b]), block);
            }
        }
    }

    #[test]
    fn uniform_has_the_mean_of_a_uniform() {
        let philox = Philox::for_op([7, 0, 3, 1], stream_of_name("layers.0.dropout"));
        let mean = (0..40_000).map(|i| f64::from(philox.uniform(i))).sum::<f64>() / 40_000.0;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
    }
}
