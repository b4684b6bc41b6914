//! Ops that several ranks run together: what each sends and receives, and in which pieces.
//!
//! Tensors are taken one behind the other as one row of elements, which bounds cut into one shard per rank: rank r owns
//! `bounds[r]..bounds[r + 1]`. Invariants: a collective moves elements and computes nothing, so that no sum depends on what moves
//! them; lengths, bounds and the number of ranks are the same on every rank, and a rank's own number is all that differs. Look
//! next at `ops::exchange_shards` and `ops::gather_shards`.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// This rank among those that train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
}

impl World {
    /// A process that trains alone.
    pub const ALONE: World = World { rank: 0, size: 1 };

    /// Whether there are no others.
    pub fn is_alone(self) -> bool {
        self.size == 1
    }
}

impl Default for World {
    fn default() -> Self {
        World::ALONE
    }
}

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Each rank sends every other its shard.
    AllToAll,
    /// Each rank sends its own shard to every other.
    Gather,
}

/// A collective op as whoever runs, prices or compares it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collective<'a> {
    /// What moves.
    pub movement: Movement,
    /// Who takes part.
    pub world: World,
    /// Elements of each tensor.
    pub lengths: &'a [usize],
    /// Where shards begin and end.
    pub bounds: &'a [usize],
}

impl Collective<'_> {
    /// Elements that this rank sends and receives, where every rank has something to send.
    pub fn moved_elements(&self) -> (usize, usize) {
        let (all, own) = (self.bounds.last().copied().unwrap_or(0), self.own().len());
        let others = self.world.size - 1;
        match self.movement {
            Movement::AllToAll => (all - own, others * own),
            Movement::Gather => (others * own, all - own),
        }
    }

    /// This rank's shard.
    pub fn own(&self) -> Range<usize> {
        shard(self.bounds, self.world.rank)
    }

    /// All of it that every rank has to have alike.
    pub fn agreed(&self) -> String {
        let Collective { movement, world, lengths, bounds } = self;
        format!("{movement:?} of {} ranks: {lengths:?} cut at {bounds:?}", world.size)
    }

    /// Refuses ranks, lengths and bounds that do not fit each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        let World { rank, size } = self.world;
        if rank >= size {
            return Err(format!("attribute world: rank {rank} of {size}"));
        }
        let all = self.lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
        let counted = self.bounds.len().checked_sub(1) == Some(size);
        let fits = counted && self.bounds[0] == 0 && self.bounds.is_sorted();
        if !fits || all != self.bounds.last().copied() || self.lengths.is_empty() {
            let (lengths, bounds) = (self.lengths, self.bounds);
            return Err(format!("attributes lengths {lengths:?} and bounds {bounds:?} must fit {size} ranks"));
        }
        Ok(())
    }
}

/// A rank's shard.
pub fn shard(bounds: &[usize], rank: usize) -> Range<usize> {
    bounds[rank]..bounds[rank + 1]
}

/// The pieces of tensors of these lengths that a range of all their elements consists of: index of the tensor, and elements
/// of it.
pub fn pieces(lengths: &[usize], range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = 0;
    lengths.iter().enumerate().filter_map(move |(index, &length)| {
        let first = start;
        start += length;
        let (from, to) = (range.start.max(first), range.end.min(start));
        (from < to).then(|| (index, from - first..to - first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_all_shards_are_all_tensors() {
        let lengths = [3, 1, 0, 5];
        for bounds in [[0, 2, 9], [0, 0, 9], [0, 9, 9], [0, 4, 9]] {
            let all: Vec<_> = (0..2).flat_map(|rank| pieces(&lengths, shard(&bounds, rank))).collect();
            for (index, &length) in lengths.iter().enumerate() {
                let of: Vec<usize> =
                    all.iter().filter(|(tensor, _)| *tensor == index).flat_map(|of| of.1.clone()).collect();
                assert_eq!(of, (0..length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_sent_is_received() {
        let bounds = [0, 2, 2, 9];
        for movement in [Movement::AllToAll, Movement::Gather] {
            let of = |rank| Collective { movement, world: World { rank, size: 3 }, lengths: &[4, 5], bounds: &bounds };
            let moved = [0, 1, 2].map(|rank| of(rank).moved_elements());
            assert_eq!(
                moved.map(|(sent, _)| sent).iter().sum::<usize>(),
                moved.map(|(_, received)| received).iter().sum::<usize>()
            );
            assert_eq!((of(0).check(), of(0).agreed()), (Ok(()), of(2).agreed()));
            assert!(of(3).check().is_err(), "no such rank");
        }
        let unfit = Collective { movement: Movement::Gather, world: World::ALONE, lengths: &[4], bounds: &[0, 5] };
        assert!(unfit.check().is_err());
    }
}
