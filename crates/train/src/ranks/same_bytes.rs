//! Whether what all ranks have to hold alike is alike: parameters and the weights that are not trained, by their hashes.
//!
//! Invariants: a bit that was flipped in the memory of one rank is noticed when it is next compared, since each step of a hash can be undone; no
//! tensor is copied whole. It is compared before the first update, every so many updates and before whatever is written.
//! Parameters are besides, where they are small, before every update, since it hands each of them from its owner to all: what
//! was flipped before is the same everywhere behind it.

use crate::TrainError;
use crate::folder::saved_states::SavedState;
use crate::run::session::Session;
use remat_comm::{Engine, gather_all};
use remat_ir::Storage;
use remat_plan::{Device, DeviceError, SourceId};

/// What all ranks hold alike.
pub(crate) struct SameBytes {
    /// Parameters first.
    names: Vec<String>,
    sources: Vec<SourceId>,
    parameters: usize,
    every: u64,
    /// Whether the parameters are so small that they are compared before every update.
    always: bool,
}

/// Parameters that are compared before every update: at the speed of memory, a few thousandths of any update's time.
const MOST_PARAMETER_BYTES: usize = 64 << 20;

impl SameBytes {
    /// What every rank has all of: those of the saved states `states` of a run, and its weights; compared after every `every`
    /// updates.
    pub(crate) fn of(session: &Session, states: &[SavedState], every: u64) -> Result<Self, DeviceError> {
        let loaded = &session.step.loaded;
        let graph = &loaded.micro_plan(session.step.longest()).graph;
        let weights = graph.values.iter().filter(|value| value.storage == Storage::Weight);
        let weights = weights.map(|value| (Storage::Weight, value.name.clone()));
        let states = states.iter().filter(|state| state.is_everywhere());
        let bytes: usize = states.clone().map(|state| state.ty.bytes()).sum();
        let (parameters, always) = (states.clone().count(), bytes <= MOST_PARAMETER_BYTES);
        let all: Vec<(Storage, String)> =
            states.map(|state| (Storage::State, state.name.clone())).chain(weights).collect();
        let sources = all.iter().map(|(storage, name)| loaded.device().known(*storage, name));
        let sources = sources.collect::<Result<_, _>>()?;
        let names = all.into_iter().map(|(_, name)| name).collect();
        Ok(SameBytes { names, sources, parameters, every, always })
    }

    /// Whether it is time, after so many updates.
    pub(crate) fn is_due(&self, made: u64) -> bool {
        made.is_multiple_of(self.every)
    }

    /// Compares everything with the other ranks, after `made` updates.
    ///
    /// # Errors
    /// A tensor that is another on one rank than on the others; every rank is told.
    pub(crate) fn compare(&self, engine: &dyn Engine, device: &dyn Device, made: u64) -> Result<(), TrainError> {
        self.compare_first(self.sources.len(), engine, device, made)
    }

    /// Compares the parameters before an update after `made` others, if that takes little or it is time for it.
    ///
    /// # Errors
    /// As [`SameBytes::compare`].
    pub(crate) fn compare_parameters(
        &self,
        engine: &dyn Engine,
        device: &dyn Device,
        made: u64,
    ) -> Result<(), TrainError> {
        if self.always || self.is_due(made) {
            self.compare_first(self.parameters, engine, device, made)
        } else {
            Ok(())
        }
    }

    fn compare_first(
        &self,
        count: usize,
        engine: &dyn Engine,
        device: &dyn Device,
        made: u64,
    ) -> Result<(), TrainError> {
        let (mut buffer, mut mine) = (Vec::new(), Vec::with_capacity(count * HASH_BYTES));
        for &source in &self.sources[..count] {
            let mut hash = Hash::default();
            device.read_pieces(source, &mut buffer, &mut |piece| {
                hash.add(piece);
                Ok::<(), DeviceError>(())
            })?;
            mine.extend(hash.value().to_le_bytes());
        }
        let all = gather_all(engine, &mine)?;
        let Some((index, rank)) = odd_one(&all) else { return Ok(()) };
        let others = if all.len() == 2 { "rank 0" } else { "the other ranks" };
        Err(TrainError::RanksDiverged { update: made, tensor: self.names[index].clone(), rank, others })
    }
}

/// The first tensor that is not the same on all ranks, and the first rank whose is not what most have; of as many each, what
/// rank 0 has counts.
fn odd_one(all: &[Vec<u8>]) -> Option<(usize, usize)> {
    let of = |rank: &Vec<u8>, index: usize| rank.chunks_exact(HASH_BYTES).nth(index).map(<[u8]>::to_vec);
    let tensors = all.iter().map(|hashes| hashes.len() / HASH_BYTES).max()?;
    let index = (0..tensors).find(|&index| all.iter().any(|rank| of(rank, index) != of(&all[0], index)))?;
    let votes = |hash: &Option<Vec<u8>>| all.iter().filter(|rank| of(rank, index) == *hash).count();
    let mut most = of(&all[0], index);
    for other in all.iter().map(|rank| of(rank, index)) {
        if votes(&other) > votes(&most) {
            most = other;
        }
    }
    let rank = all.iter().position(|rank| of(rank, index) != most)?;
    Some((index, rank))
}

const HASH_BYTES: usize = size_of::<u64>();

const WORD_BYTES: usize = size_of::<u64>();

const LANES: usize = 4;

/// A hash of bytes: in each of four lanes h ← rotate((h ⊕ word) · odd), each of which can be undone, so that two texts that
/// differ in one word differ in their hash. It runs as fast as memory is read, and is no defence against malice.
#[derive(Debug, Clone, Copy, Default)]
struct Hash {
    lanes: [u64; LANES],
    bytes: u64,
}

impl Hash {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

    fn step(state: u64, word: u64) -> u64 {
        (state ^ word).wrapping_mul(Self::MULTIPLIER).rotate_left(29)
    }

    /// Adds a piece, which is whole rows of lanes unless it is the last.
    fn add(&mut self, piece: &[u8]) {
        let rows = piece.chunks_exact(LANES * WORD_BYTES);
        let rest = rows.remainder();
        for row in rows {
            self.add_row(row);
        }
        if !rest.is_empty() {
            let mut row = [0; LANES * WORD_BYTES];
            row[..rest.len()].copy_from_slice(rest);
            self.add_row(&row);
        }
        self.bytes += piece.len() as u64;
    }

    fn add_row(&mut self, row: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(row.chunks_exact(WORD_BYTES)) {
            *lane = Self::step(*lane, u64::from_le_bytes(word.try_into().expect("a word")));
        }
    }

    fn value(&self) -> u64 {
        self.lanes.iter().chain([&self.bytes]).fold(0, |hash, &lane| Self::step(hash, lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8], piece: usize) -> u64 {
        let mut hash = Hash::default();
        bytes.chunks(piece).for_each(|piece| hash.add(piece));
        hash.value()
    }

    #[test]
    fn every_bit_counts_and_pieces_do_not() {
        let bytes: Vec<u8> = (0..203u32).map(|at| (at * 7 + at / 5) as u8).collect();
        let whole = hash(&bytes, bytes.len());
        assert_eq!(whole, hash(&bytes, 64));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash(&flipped, flipped.len()), whole, "bit {bit}");
        }
        assert_ne!(hash(&[&bytes[..], &[0]].concat(), 64), whole, "zeros at the end");
    }

    #[test]
    fn most_ranks_are_right() {
        let ranks = |hashes: &[[u64; 2]]| -> Vec<Vec<u8>> {
            hashes.iter().map(|rank| rank.iter().flat_map(|hash| hash.to_le_bytes()).collect()).collect()
        };
        assert_eq!(odd_one(&ranks(&[[1, 2], [1, 2], [1, 2]])), None);
        assert_eq!(odd_one(&ranks(&[[1, 2], [1, 3], [1, 2]])), Some((1, 1)));
        assert_eq!(odd_one(&ranks(&[[1, 3], [1, 2], [1, 2]])), Some((1, 0)), "rank 0 may be the odd one");
        assert_eq!(odd_one(&ranks(&[[1, 2], [4, 3]])), Some((0, 1)), "of two, rank 0 counts");
    }
}
