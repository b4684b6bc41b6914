//! Which elements of the parameters each rank owns: it adds up their gradients, keeps their moments and updates them (ZeRO-1:
//! Rajbhandari et al., *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*, 2020).
//!
//! Method: parameters are taken in groups, one after the other until a group is large enough to be sent at once, and each group
//! is cut into as many shards as there are ranks, as evenly as can be. Invariants: a cut is between two of the blocks in which a
//! gradient's norm is summed, and so between two blocks of 8-bit moments, so that no sum and no code depends on how many ranks
//! there are; every element has one owner.

use remat_ir::ops::square_block;
use remat_ir::{Parameter, pieces, shard};
use std::ops::Range;

/// Elements of a group, at least: 4 MiB of gradients. What is received of a group lies in the arena until it is added up.
const GROUP_ELEMENTS: usize = 1 << 20;

/// Parameters that are exchanged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardGroup {
    /// Which of all parameters.
    pub(crate) parameters: Range<usize>,
    /// Elements of each.
    pub(crate) lengths: Vec<usize>,
    /// Where shards begin and end, in elements of the group.
    pub(crate) bounds: Vec<usize>,
}

/// Elements of one parameter that a rank owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which parameter.
    pub parameter: usize,
    /// Which of its elements.
    pub elements: Range<usize>,
}

/// Who owns which elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    ranks: usize,
    lengths: Vec<usize>,
    groups: Vec<ShardGroup>,
}

impl Shards {
    /// Of parameters, for so many ranks.
    pub fn of(parameters: &[Parameter], ranks: usize) -> Self {
        Shards::of_lengths(parameters.iter().map(|parameter| parameter.ty.shape.numel()).collect(), ranks)
    }

    fn of_lengths(lengths: Vec<usize>, ranks: usize) -> Self {
        let mut groups = Vec::new();
        let (mut first, mut elements) = (0, 0);
        for (index, length) in lengths.iter().enumerate() {
            elements += length;
            if elements >= GROUP_ELEMENTS || index + 1 == lengths.len() {
                let lengths = lengths[first..=index].to_vec();
                let bounds = bounds(&lengths, ranks);
                groups.push(ShardGroup { parameters: first..index + 1, lengths, bounds });
                (first, elements) = (index + 1, 0);
            }
        }
        Shards { ranks, lengths, groups }
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// How many parameters there are.
    pub(crate) fn parameters(&self) -> usize {
        self.lengths.len()
    }

    pub(crate) fn groups(&self) -> &[ShardGroup] {
        &self.groups
    }

    /// What a rank owns, in the order of parameters.
    pub fn pieces(&self, rank: usize) -> impl Iterator<Item = Piece> {
        self.groups.iter().flat_map(move |group| group.pieces(rank))
    }

    /// What each rank owns of one parameter, in the order of ranks, which is that of the elements.
    pub fn of_parameter(&self, parameter: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let group = self.groups.iter().find(move |group| group.parameters.contains(&parameter));
        let of_rank = move |rank: usize| {
            let mut pieces = group.into_iter().flat_map(move |group| group.pieces(rank));
            pieces.find(|piece| piece.parameter == parameter).map(|piece| (rank, piece.elements))
        };
        (0..self.ranks).filter_map(of_rank)
    }

    /// How many elements a rank owns.
    pub fn elements(&self, rank: usize) -> usize {
        self.groups.iter().map(|group| shard(&group.bounds, rank).len()).sum()
    }

    /// In how many blocks the norm of what a rank owns is summed.
    pub fn blocks(&self, rank: usize) -> usize {
        self.pieces(rank).map(|piece| piece.elements.len().div_ceil(self.block(piece.parameter))).sum()
    }

    /// The rank that owns most.
    pub fn fullest(&self) -> usize {
        (0..self.ranks).max_by_key(|&rank| (self.elements(rank), self.ranks - rank)).unwrap_or(0)
    }

    /// Elements of a block of a parameter.
    pub(crate) fn block(&self, parameter: usize) -> usize {
        square_block(self.lengths[parameter])
    }
}

impl ShardGroup {
    /// What a rank owns of it.
    pub(crate) fn pieces(&self, rank: usize) -> impl Iterator<Item = Piece> {
        let of = pieces(&self.lengths, shard(&self.bounds, rank));
        let first = self.parameters.start;
        of.map(move |(index, elements)| Piece { parameter: first + index, elements })
    }
}

/// Bounds of the shards of tensors of these lengths: between two blocks, nearest to where even shards would end.
fn bounds(lengths: &[usize], ranks: usize) -> Vec<usize> {
    let all: usize = lengths.iter().sum();
    let (mut starts, mut start) = (Vec::new(), 0);
    for &length in lengths {
        starts.extend((0..length).step_by(square_block(length)).map(|at| start + at));
        start += length;
    }
    starts.push(all);
    let even = |rank: usize| (all as u128 * rank as u128 / ranks as u128) as usize;
    let nearest = |at: usize| {
        let behind = starts.partition_point(|&start| start < at).min(starts.len() - 1);
        let before = behind.saturating_sub(1);
        if at - starts[before].min(at) < starts[behind] - at { starts[before] } else { starts[behind] }
    };
    (0..=ranks).map(|rank| nearest(even(rank))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_one_owner_and_no_block_two() {
        let cases: [&[usize]; 5] = [&[1], &[37, 64, 4096], &[4097; 9], &[20 << 20, 3, 9 << 20], &[5 << 20; 7]];
        for lengths in cases {
            for ranks in 1..=7 {
                let shards = Shards::of_lengths(lengths.to_vec(), ranks);
                for (parameter, &length) in lengths.iter().enumerate() {
                    let mut end = 0;
                    for (_, elements) in shards.of_parameter(parameter) {
                        assert_eq!(elements.start, end);
                        assert!(elements.start.is_multiple_of(shards.block(parameter)));
                        end = elements.end;
                    }
                    assert_eq!(end, length, "{lengths:?} on {ranks}");
                }
                let owned: usize = (0..ranks).map(|rank| shards.elements(rank)).sum();
                let listed: usize =
                    (0..ranks).flat_map(|rank| shards.pieces(rank)).map(|piece| piece.elements.len()).sum();
                assert_eq!((owned, listed), (lengths.iter().sum(), owned));
                let most = (0..ranks).map(|rank| shards.elements(rank)).max();
                assert_eq!(most, Some(shards.elements(shards.fullest())));
            }
        }
    }

    #[test]
    fn shards_of_what_is_large_are_even() {
        let shards = Shards::of_lengths(vec![32000 * 2048, 2048 * 2048, 2048, 5632 * 2048], 4);
        let even = shards.elements(0) as f64;
        (1..4).for_each(|rank| assert!((shards.elements(rank) as f64 / even - 1.0).abs() < 0.01));
    }
}
