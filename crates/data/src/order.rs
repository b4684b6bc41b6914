//! The order of sequences: which one is trained on when. Invariants: the order of an epoch is a pure function of
//! (seed, epoch, number of sequences); `SamplerState` is all there is to know to go on exactly where a run stopped.
//!
//! Shuffling is Fisher and Yates' (Knuth 3.4.2, algorithm P) with one Philox block per exchange: O(n), any epoch can
//! be reached without the ones before it. An index below i is the high half of i × a 64-bit number (Lemire, *Fast
//! random integer generation in an interval*, 2019); its bias is below i / 2^64.

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
}

/// Gives the sequences of epoch after epoch.
#[derive(Debug, Clone)]
pub struct Sampler {
    order: Order,
    epoch: u64,
    index: usize,
    permutation: Vec<u32>,
    fingerprint: u64,
}

impl Sampler {
    /// Starts at the first sequence of epoch 0. Panics if there is no sequence, or more than `u32` can count.
    pub fn new(sequences: usize, order: Order, fingerprint: u64) -> Self {
        assert!(sequences > 0, "Sampler: there is nothing to order");
        let sequences = u32::try_from(sequences).expect("Sampler: a dataset counts its samples in u32");
        let mut sampler = Sampler { order, epoch: 0, index: 0, permutation: (0..sequences).collect(), fingerprint };
        sampler.arrange();
        sampler
    }

    /// Sequences of an epoch.
    pub fn sequences(&self) -> usize {
        self.permutation.len()
    }

    /// Adds up to `limit` sequences to `out`; never from two epochs at once. With `limit` at least 1 it adds at least
    /// one. Allocates only what `out` lacks.
    pub fn take(&mut self, limit: usize, out: &mut Vec<SequenceId>) {
        let end = self.index + limit.min(self.permutation.len() - self.index);
        out.extend(self.permutation[self.index..end].iter().map(|&index| SequenceId(index)));
        self.index = end;
        if self.index == self.permutation.len() {
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
        self.epoch as f64 + self.index as f64 / self.permutation.len() as f64
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
            sequences: self.permutation.len() as u64,
            fingerprint: self.fingerprint,
        }
    }

    /// Goes to a saved position, order and seed included. An error if it was saved with other data.
    pub fn restore(&mut self, state: &SamplerState) -> Result<(), DataError> {
        let sequences = self.permutation.len() as u64;
        let refuse = |reason: String| Err(DataError::Position { reason });
        if state.sequences != sequences {
            return refuse(format!("it counts {} sequences an epoch, the data has {sequences}", state.sequences));
        }
        if state.fingerprint != self.fingerprint {
            return refuse("the data's tokens or labels are not those it was saved with".to_string());
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
        size_of_val(&self.permutation[..])
    }

    /// Writes the current epoch's order in place.
    fn arrange(&mut self) {
        for (index, sequence) in self.permutation.iter_mut().enumerate() {
            *sequence = index as u32;
        }
        if let Order::Shuffled { seed } = self.order {
            shuffle(&mut self.permutation, seed, self.epoch);
        }
    }
}

fn shuffle(permutation: &mut [u32], seed: u64, epoch: u64) {
    let low_high = |word: u64| [word as u32, (word >> 32) as u32];
    let ([seed_low, seed_high], [epoch_low, epoch_high]) = (low_high(seed), low_high(epoch));
    let philox = Philox::for_op([seed_low, seed_high, epoch_low, epoch_high], stream_of_name("data.order"));
    for last in (1..permutation.len()).rev() {
        let words = philox.block(last as u64);
        let random = u64::from(words[0]) | u64::from(words[1]) << 32;
        let chosen = (u128::from(random) * (last as u128 + 1)) >> 64;
        permutation.swap(last, chosen as usize);
    }
}
