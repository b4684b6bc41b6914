//! Length buckets: where rows differ in length, a short batch runs in a shorter plan of its own.
//!
//! Method: of the lengths that a micro-batch can have, the few whose plans leave least padding, by dynamic programming over
//! the sorted lengths: O(buckets · edges²). A bucket has to save a tenth of the tokens to be worth its plan. Invariants: a
//! pure function of the rows' lengths and the batch size, so that a resumed run has the same; the last bucket is the
//! longest, whose plan alone decides the arena. Look next at `planning`, which makes a plan for each.

use crate::TrainError;
use crate::plan::setting::Setting;
use remat_ir::Graph;
use remat_model::BatchShape;
use remat_plan::{DeviceProfile, Plan};
use remat_step::TrainingStep;
use serde::Serialize;
use std::collections::BTreeMap;

/// Lengths are rounded up to this.
pub(crate) const SEQ_LEN_MULTIPLE: usize = 16;

/// Plans at most.
const MOST: usize = 4;

/// Lengths that are weighed at most.
const EDGES: usize = 128;

/// What one more plan has to save, of the tokens that are computed without it.
const WORTH: f64 = 0.1;

/// Micro-batches that share a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthBucket {
    /// Tokens of a row.
    pub seq_len: usize,
    /// The part of all micro-batches that it is expected to hold.
    pub share: f64,
}

/// A bucket with its plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BucketPlan {
    /// Tokens of a row.
    pub seq_len: usize,
    /// The part of all micro-batches that it is expected to hold.
    pub share: f64,
    /// Steps of the plan.
    pub plan_steps: usize,
    /// Steps that repeat forward work.
    pub recomputed_steps: usize,
    /// What lives from forward to backward.
    pub activation_bytes: usize,
    /// Bytes of the arena that it uses.
    pub arena_bytes: usize,
    /// Predicted seconds of one micro-step.
    pub micro_step_seconds: f64,
}

impl BucketPlan {
    pub(crate) fn of(bucket: LengthBucket, plan: &Plan, profile: &DeviceProfile) -> Self {
        BucketPlan {
            seq_len: bucket.seq_len,
            share: bucket.share,
            plan_steps: plan.steps.len(),
            recomputed_steps: plan.recomputed_steps().count(),
            activation_bytes: plan.activation_bytes(),
            arena_bytes: plan.arena_bytes,
            micro_step_seconds: plan.step_seconds(&profile.prices),
        }
    }
}

/// The buckets of rows, so many of each length, the shortest first; the last has `longest` tokens, which all rows fit.
pub(crate) fn buckets(lengths: &BTreeMap<usize, usize>, batch: usize, longest: usize) -> Vec<LengthBucket> {
    let all: usize = lengths.values().sum();
    let step = longest.div_ceil(EDGES).next_multiple_of(SEQ_LEN_MULTIPLE);
    let mut edges: Vec<usize> = (1..longest.div_ceil(step)).map(|index| index * step).collect();
    edges.push(longest);
    // A micro-batch is as long as its longest row, and rows come in any order.
    let at_most = |edge: usize| {
        let rows: usize = lengths.range(..=edge).map(|(_, rows)| rows).sum();
        (rows as f64 / all.max(1) as f64).powf(batch as f64)
    };
    let mut within: Vec<f64> = edges.iter().map(|&edge| at_most(edge)).collect();
    within[edges.len() - 1] = 1.0;
    let share = |from: Option<usize>, to: usize| within[to] - from.map_or(0.0, |from| within[from]);
    let tokens = |chosen: &[usize]| -> f64 {
        let before = std::iter::once(None).chain(chosen.iter().copied().map(Some));
        chosen.iter().zip(before).map(|(&to, from)| share(from, to) * edges[to] as f64).sum()
    };
    let mut best = vec![edges.len() - 1];
    for count in 2..=MOST.min(edges.len()) {
        let more = fewest_tokens(count, &edges, &share);
        if tokens(&more) > (1.0 - WORTH) * tokens(&best) {
            break;
        }
        best = more;
    }
    let before: Vec<Option<usize>> = std::iter::once(None).chain(best.iter().copied().map(Some)).collect();
    let bucket = |(&to, from)| LengthBucket { seq_len: edges[to], share: share(from, to) };
    best.iter().zip(before).map(bucket).collect()
}

/// The `count` edges, the last among them, that leave least padding.
fn fewest_tokens(count: usize, edges: &[usize], share: &dyn Fn(Option<usize>, usize) -> f64) -> Vec<usize> {
    let mut sums: Vec<f64> = (0..edges.len()).map(|to| share(None, to) * edges[to] as f64).collect();
    let mut origins: Vec<Vec<usize>> = Vec::new();
    for _ in 1..count {
        let (mut next, mut origin) = (vec![f64::INFINITY; edges.len()], vec![0; edges.len()]);
        for to in 1..edges.len() {
            for (from, before) in sums.iter().enumerate().take(to) {
                let sum = before + share(Some(from), to) * edges[to] as f64;
                if sum < next[to] {
                    (next[to], origin[to]) = (sum, from);
                }
            }
        }
        sums = next;
        origins.push(origin);
    }
    let mut chosen = vec![edges.len() - 1];
    for origin in origins.iter().rev() {
        chosen.push(origin[chosen[chosen.len() - 1]]);
    }
    chosen.reverse();
    chosen
}

/// Forward and backward of a shorter bucket.
pub(crate) fn shorter(setting: Setting<'_>, seq_len: usize) -> Result<Graph, TrainError> {
    let shape = BatchShape { seq_len, ..setting.shape };
    Ok(TrainingStep::shorter(Setting { shape, ..setting }.training()?, seq_len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(buckets: &[LengthBucket]) -> Vec<usize> {
        buckets.iter().map(|bucket| bucket.seq_len).collect()
    }

    fn counted(lengths: Vec<usize>) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        lengths.into_iter().for_each(|length| *counts.entry(length).or_default() += 1);
        counts
    }

    #[test]
    fn equal_lengths_have_one_bucket_and_two_kinds_two() {
        assert_eq!(buckets(&counted(vec![100; 50]), 1, 112), [LengthBucket { seq_len: 112, share: 1.0 }]);
        let two = buckets(&counted([vec![20; 75], vec![500; 25]].concat()), 1, 512);
        assert_eq!(two, [LengthBucket { seq_len: 32, share: 0.75 }, LengthBucket { seq_len: 512, share: 0.25 }]);
        // A batch of eight has a long row nine times in ten.
        assert_eq!(lens(&buckets(&counted([vec![20; 75], vec![500; 25]].concat()), 8, 512)), [512]);
    }

    #[test]
    fn all_rows_have_their_place_and_padding_falls() {
        let lengths: Vec<usize> = (0..1000).map(|row| 1 + row * row * 4000 / 1_000_000).collect();
        for batch in [1, 2, 4] {
            let found = buckets(&counted(lengths.clone()), batch, 4000);
            assert!(found.len() <= MOST && found.windows(2).all(|pair| pair[0].seq_len < pair[1].seq_len));
            assert_eq!(found.last().map(|last| last.seq_len), Some(4000));
            assert!((found.iter().map(|bucket| bucket.share).sum::<f64>() - 1.0).abs() < 1e-12);
            let tokens: f64 = found.iter().map(|bucket| bucket.share * bucket.seq_len as f64).sum();
            assert!(tokens < 0.9 * 4000.0, "batch {batch}: {found:?}");
            assert!(found[..found.len() - 1].iter().all(|bucket| bucket.seq_len % SEQ_LEN_MULTIPLE == 0));
        }
    }

    #[test]
    fn the_choice_is_the_best_of_all_choices() {
        let lengths: Vec<usize> = (0..60).map(|row| 1 + (row * 37) % 150).collect();
        let edges: Vec<usize> = (1..=10).map(|index| index * 16).collect();
        let within = |edge: usize| lengths.iter().filter(|&&length| length <= edge).count() as f64 / 60.0;
        let share = |from: Option<usize>, to: usize| within(edges[to]) - from.map_or(0.0, |from| within(edges[from]));
        let tokens = |a: usize, b: usize| {
            share(None, a) * edges[a] as f64 + share(Some(a), b) * edges[b] as f64 + share(Some(b), 9) * edges[9] as f64
        };
        let found = fewest_tokens(3, &edges, &share);
        let all = (0..8).flat_map(|a| (a + 1..9).map(move |b| (a, b)));
        let best = all.map(|(a, b)| tokens(a, b)).fold(f64::INFINITY, f64::min);
        assert_eq!((found.len(), found[2]), (3, 9));
        assert!((tokens(found[0], found[1]) - best).abs() < 1e-9, "{found:?}");
    }
}
