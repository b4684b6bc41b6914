//! Groups joined: dynamic programming over the chain of groups, one frontier of the whole graph.
//!
//! Maths: bytes and seconds of groups add, so the frontier of the first g + 1 groups is the Minkowski sum of that of the
//! first g with the choices of the next, pruned: a multiple-choice knapsack (Kellerer, Pferschy, Pisinger, *Knapsack
//! Problems*, 2004). Bytes are sorted into at most [`BUCKETS`] buckets (fewer for many groups), of which each keeps its fastest sum with its exact
//! bytes: what is dropped is never misjudged. O(groups · BUCKETS · choices).
//! Groups of one class can trade their choices freely; the later gets the choice that keeps more, since it is freed first.

use super::block::GroupChoice;

const BUCKETS: usize = 8192;

/// Sums that are remembered for all groups together.
const SUMS: usize = 1 << 21;

/// Per group, the index of its choice.
pub(super) type Assignment = Vec<u16>;

#[derive(Debug, Clone, Copy)]
struct Sum {
    bytes: usize,
    seconds: f64,
    origin: Origin,
}

/// What a sum is made of: one of the sums of the groups before, and a choice. All that is kept of a layer behind the next.
#[derive(Debug, Clone, Copy)]
struct Origin {
    before: u32,
    choice: u16,
}

const START: Origin = Origin { before: 0, choice: 0 };

/// Assignments that no other beats in both bytes and seconds, fewest bytes first, at most `most` of them. `class_of` names
/// for each group its entry in `choices`.
pub(super) fn assignments(choices: &[Vec<GroupChoice>], class_of: &[usize], most: usize) -> Vec<Assignment> {
    let bytes_of = |&class: &usize| choices[class].last().map_or(0, |choice| choice.bytes);
    let total: usize = class_of.iter().map(bytes_of).sum();
    let unit = choices.iter().flatten().fold(0, |unit, choice| gcd(unit, choice.bytes));
    let buckets = (SUMS / class_of.len().max(1)).clamp(2 * most, BUCKETS.max(2 * most));
    let width = unit.max(total.div_ceil(buckets)).max(1);
    let mut sums = vec![Sum { bytes: 0, seconds: 0.0, origin: START }];
    let mut layers: Vec<Vec<Origin>> = Vec::with_capacity(class_of.len());
    for &class in class_of {
        sums = joined(&sums, &choices[class], width);
        layers.push(sums.iter().map(|sum| sum.origin).collect());
    }
    let ends = sums.len();
    let stride = ends.div_ceil(most.max(2) - 1).max(1);
    let mut wanted: Vec<usize> = (0..ends).step_by(stride).collect();
    if wanted.last() != Some(&(ends - 1)) {
        wanted.push(ends - 1);
    }
    let classes: Vec<Vec<usize>> = (0..choices.len())
        .map(|class| (0..class_of.len()).filter(|&group| class_of[group] == class).collect())
        .collect();
    wanted.into_iter().map(|end| late_keeps_more(traced(&layers, end), &classes)).collect()
}

/// Bytes as whole buckets and what is left, so that the sums below need no division.
#[derive(Clone, Copy)]
struct Buckets {
    whole: usize,
    rest: usize,
}

impl Buckets {
    fn of(bytes: usize, width: usize) -> Buckets {
        Buckets { whole: bytes / width, rest: bytes % width }
    }
}

fn joined(sums: &[Sum], choices: &[GroupChoice], width: usize) -> Vec<Sum> {
    let most = sums.last().map_or(0, |sum| sum.bytes) + choices.last().map_or(0, |choice| choice.bytes);
    let empty = Sum { bytes: usize::MAX, seconds: f64::INFINITY, origin: START };
    let mut buckets: Vec<Sum> = vec![empty; most / width + 1];
    let steps: Vec<(Buckets, usize, f64)> =
        choices.iter().map(|choice| (Buckets::of(choice.bytes, width), choice.bytes, choice.seconds)).collect();
    for (before, sum) in sums.iter().enumerate() {
        let from = Buckets::of(sum.bytes, width);
        for (index, (step, bytes, seconds)) in steps.iter().enumerate() {
            let (bytes, seconds) = (sum.bytes + bytes, sum.seconds + seconds);
            let bucket = &mut buckets[from.whole + step.whole + usize::from(from.rest + step.rest >= width)];
            if seconds < bucket.seconds || (seconds == bucket.seconds && bytes < bucket.bytes) {
                *bucket = Sum { bytes, seconds, origin: Origin { before: before as u32, choice: index as u16 } };
            }
        }
    }
    // The fewest bytes of all are the smallest feasible budget: they must not lose their bucket to a faster sum.
    let fewest =
        Sum { bytes: sums[0].bytes + choices[0].bytes, seconds: sums[0].seconds + choices[0].seconds, origin: START };
    let mut best = fewest.seconds;
    let mut next = vec![fewest];
    for sum in buckets {
        if sum.seconds < best {
            best = sum.seconds;
            next.push(sum);
        }
    }
    next
}

fn traced(layers: &[Vec<Origin>], end: usize) -> Assignment {
    let mut at = end;
    let mut assignment = vec![0; layers.len()];
    for (choice, layer) in assignment.iter_mut().zip(layers).rev() {
        *choice = layer[at].choice;
        at = layer[at].before as usize;
    }
    assignment
}

/// Choices are numbered from the fewest bytes, so sorting them within a class gives the last group the most. `classes` has
/// the groups of each.
fn late_keeps_more(mut assignment: Assignment, classes: &[Vec<usize>]) -> Assignment {
    for places in classes {
        let mut chosen: Vec<u16> = places.iter().map(|&group| assignment[group]).collect();
        chosen.sort_unstable();
        places.iter().zip(chosen).for_each(|(&group, choice)| assignment[group] = choice);
    }
    assignment
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
