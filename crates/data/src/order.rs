//! The order of sequences: which one is trained on when. Invariants: the order of an epoch is a pure function of
//! (seed, epoch, number of sequences); `SamplerState` is all there is to know to go on exactly where a run stopped.
//!
//! Shuffling is Fisher and Yates' (Knuth 3.4.2, algorithm P) with one Philox block per exchange: O(n), any epoch can
//! be reached without the ones before it. An index below i is the high half of i × a 64-bit number (Lemire, *Fast
//! random integer generation in an interval*, 2019); its bias is below i / 2^64.
//!
//! Of more than `TABLE_SEQUENCES` sequences no table is held: a Feistel network over the next power of four, walked until
//! it leads to a sequence (Black and Rogaway, *Ciphers with arbitrary finite domains*, 2002), says which one is at an index:
//! O(1), less than four walks on average.

use crate::DataError;
use crate::packing::SequenceId;
use remat_tensor::{Philox, stream_of_name};
use serde::{Deserialize, Serialize};

/// How sequences are ordered within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// File order, in every epoch.
    InOrder,
    /// A new order in every epoch.
    Shuffled {
        /// The run's seed.
        seed: u64,
    },
}

/// Up to so many sequences are shuffled in a table.
const TABLE_SEQUENCES: usize = 1 << 16;
/// Rounds of the network; four make a pseudorandom permutation of a pseudorandom function (Luby and Rackoff, 1988).
const ROUNDS: u64 = 6;

/// A position in the data, as it is saved with a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerState {
    /// Whether epochs are shuffled.
    pub shuffle: bool,
    /// The seed of the shuffle; 0 in file order.
    pub seed: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Sequences of the current epoch already taken.
    pub index: u64,
    /// Sequences of an epoch.
    pub sequences: u64,
    /// [`Sequences::fingerprint`](crate::Sequences::fingerprint) of the data.
    pub fingerprint: u64,
    /// How it is shuffled: 0 by a table, 1 by a network.
    #[serde(default)]
    pub method: u32,
}

/// Gives the sequences of epoch after epoch.
#[derive(Debug, Clone)]
pub struct Sampler {
    order: Order,
    epoch: u64,
    index: usize,
    sequences: u32,
    /// The current epoch's order, where a table is held.
    table: Vec<u32>,
    fingerprint: u64,
}

impl Sampler {
    /// Starts at the first sequence of epoch 0. Panics if there is no sequence, or more than `u32` can count.
    pub fn new(sequences: usize, order: Order, fingerprint: u64) -> Self {
        assert!(sequences > 0, "Sampler: there is nothing to order");
        let sequences = u32::try_from(sequences).expect("Sampler: a dataset counts its samples in u32");
        let in_table = if sequences as usize <= TABLE_SEQUENCES { sequences } else { 0 };
        let mut sampler = Sampler { order, epoch: 0, index: 0, sequences, table: (0..in_table).collect(), fingerprint };
        sampler.arrange();
        sampler
    }

    /// Sequences of an epoch.
    pub fn sequences(&self) -> usize {
        self.sequences as usize
    }

    /// Adds up to `limit` sequences to `out`; never from two epochs at once. With `limit` at least 1 it adds at least
    /// one. Allocates only what `out` lacks.
    pub fn take(&mut self, limit: usize, out: &mut Vec<SequenceId>) {
        let end = self.index + limit.min(self.sequences() - self.index);
        match (self.table.is_empty(), self.order) {
            (false, _) => out.extend(self.table[self.index..end].iter().map(|&sequence| SequenceId(sequence))),
            (true, Order::InOrder) => out.extend((self.index..end).map(|index| SequenceId(index as u32))),
            (true, Order::Shuffled { seed }) => {
                let network = Network::new(self.sequences, seed, self.epoch);
                out.extend((self.index..end).map(|index| SequenceId(network.at(index as u32))));
            }
        }
        self.index = end;
        if self.index == self.sequences() {
            // A forged state may hold any epoch.
            self.epoch = self.epoch.saturating_add(1);
            self.index = 0;
            self.arrange();
        }
    }

    /// Goes back to the first sequence of epoch 0.
    pub fn rewind(&mut self) {
        (self.epoch, self.index) = (0, 0);
        self.arrange();
    }

    /// Epochs done, with the current one's part.
    pub fn epochs_done(&self) -> f64 {
        self.epoch as f64 + self.index as f64 / self.sequences() as f64
    }

    /// The position from which the next sequence will be taken.
    pub fn state(&self) -> SamplerState {
        let (shuffle, seed) = match self.order {
            Order::InOrder => (false, 0),
            Order::Shuffled { seed } => (true, seed),
        };
        SamplerState {
            shuffle,
            seed,
            epoch: self.epoch,
            index: self.index as u64,
            sequences: u64::from(self.sequences),
            fingerprint: self.fingerprint,
            method: self.method(),
        }
    }

    fn method(&self) -> u32 {
        u32::from(self.table.is_empty())
    }

    /// Goes to a saved position, order and seed included. An error if it was saved with other data.
    pub fn restore(&mut self, state: &SamplerState) -> Result<(), DataError> {
        let sequences = u64::from(self.sequences);
        let refuse = |reason: String| Err(DataError::Position { reason });
        if state.sequences != sequences {
            return refuse(format!("it counts {} sequences an epoch, the data has {sequences}", state.sequences));
        }
        if state.fingerprint != self.fingerprint {
            return refuse("the data's tokens or labels are not those it was saved with".to_string());
        }
        if state.shuffle && state.method != self.method() {
            return refuse("it was saved by a version that shuffled so many rows in another order".to_string());
        }
        if state.index >= sequences {
            return refuse(format!("sequence {} of {sequences} does not exist", state.index));
        }
        self.order = if state.shuffle { Order::Shuffled { seed: state.seed } } else { Order::InOrder };
        (self.epoch, self.index) = (state.epoch, state.index as usize);
        self.arrange();
        Ok(())
    }

    /// Bytes held, for the memory table.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.table[..])
    }

    /// Writes the current epoch's order in place.
    fn arrange(&mut self) {
        for (index, sequence) in self.table.iter_mut().enumerate() {
            *sequence = index as u32;
        }
        if let Order::Shuffled { seed } = self.order {
            shuffle(&mut self.table, seed, self.epoch);
        }
    }
}

fn generator(seed: u64, epoch: u64) -> Philox {
    let low_high = |word: u64| [word as u32, (word >> 32) as u32];
    let ([seed_low, seed_high], [epoch_low, epoch_high]) = (low_high(seed), low_high(epoch));
    Philox::for_op([seed_low, seed_high, epoch_low, epoch_high], stream_of_name("data.order"))
}

/// A permutation of the sequences that is computed index by index.
struct Network {
    philox: Philox,
    sequences: u32,
    half_bits: u32,
}

impl Network {
    fn new(sequences: u32, seed: u64, epoch: u64) -> Self {
        let bits = u64::from(sequences).next_power_of_two().trailing_zeros();
        Network { philox: generator(seed, epoch), sequences, half_bits: bits.div_ceil(2) }
    }

    fn at(&self, index: u32) -> u32 {
        let mut value = u64::from(index);
        loop {
            value = self.permuted(value);
            if value < u64::from(self.sequences) {
                return value as u32;
            }
        }
    }

    /// A permutation of all numbers of twice `half_bits` bits.
    fn permuted(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let random = u64::from(self.philox.block(round << 32 | right)[0]);
            (left, right) = (right, left ^ (random & mask));
        }
        left << self.half_bits | right
    }
}

fn shuffle(permutation: &mut [u32], seed: u64, epoch: u64) {
    let philox = generator(seed, epoch);
    for last in (1..permutation.len()).rev() {
        let words = philox.block(last as u64);
        let random = u64::from(words[0]) | u64::from(words[1]) << 32;
        let chosen = (u128::from(random) * (last as u128 + 1)) >> 64;
        permutation.swap(last, chosen as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_a_permutation_that_mixes() {
        for sequences in [1, 2, 3, 5, 64, 1000, 65_537] {
            let order = |seed, epoch| {
                let network = Network::new(sequences, seed, epoch);
                (0..sequences).map(|index| network.at(index)).collect::<Vec<_>>()
            };
            let (first, second) = (order(1, 0), order(1, 1));
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..sequences), "{sequences}");
            if sequences >= 1000 {
                let stay = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a == b).count();
                let plain: Vec<u32> = (0..sequences).collect();
                // A random order leaves one in place on average.
                assert!(stay(&first, &plain) < 10 && stay(&first, &second) < 10 && stay(&first, &order(2, 0)) < 10);
                let ascents = first.windows(2).filter(|pair| pair[0] < pair[1]).count() as f64;
                assert!((ascents / f64::from(sequences) - 0.5).abs() < 0.05, "{ascents} of {sequences}");
            }
        }
    }

    #[test]
    fn many_sequences_are_taken_once_an_epoch_and_resumed() {
        let count = TABLE_SEQUENCES + 7;
        let mut sampler = Sampler::new(count, Order::Shuffled { seed: 3 }, 0);
        assert_eq!(sampler.bytes(), 0);
        let mut epoch = Vec::new();
        sampler.take(1000, &mut epoch);
        let state = sampler.state();
        sampler.take(count, &mut epoch);
        let mut sorted: Vec<u32> = epoch.iter().map(|sequence| sequence.0).collect();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..count as u32));
        let mut resumed = Sampler::new(count, Order::InOrder, 0);
        resumed.restore(&state).expect("the same data");
        let mut rest = Vec::new();
        resumed.take(count, &mut rest);
        assert_eq!(rest, epoch[1000..]);
        let old = SamplerState { method: 0, ..state };
        assert!(resumed.restore(&old).is_err(), "another order");
    }
}
