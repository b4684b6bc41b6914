//! One group solved: every sensible trade of kept bytes for recomputation seconds inside it.
//!
//! A solution is the set R of members that run again. Kept is then what backward or a member of R reads of members outside
//! R; cost is the price of those members of R that are needed at all. Both are exact, found in one reverse walk.
//!
//! Two reductions come first. (1) A member p that only member n reads, and that is no smaller than n's results, joins n:
//! keeping n's results in place of p's saves n's price and costs no byte. (2) Results far smaller than the largest (an
//! adapter's u = x·Aᵀ, row statistics) are one item. Up to [`EXACT_ITEMS`] items are enumerated; the dominated sets are
//! dropped, so the frontier is exact up to (2). More items are searched by descent on seconds + λ·bytes over a grid of λ.
//! Cost: 2^items · members, or O(items³ · members) per λ.

use super::group::{Group, Member};
use std::collections::HashSet;

/// Enumerated up to this many items.
const EXACT_ITEMS: usize = 15;

/// Results of at most one part in this many of the group's largest are decided together.
const SMALL_PART: usize = 32;

/// One way to treat a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupChoice {
    pub bytes: usize,
    pub seconds: f64,
    /// Per member, whether it runs again if it is needed.
    pub rerun: Vec<bool>,
    /// Whether everything that other groups read is kept.
    pub keeps_boundary: bool,
}

/// The choices of a group that no other choice beats in both bytes and seconds, from the fewest bytes to the fewest
/// seconds. With `keep_boundary`, only those that keep what other groups read.
pub(super) fn frontier(group: &Group, keep_boundary: bool) -> Vec<GroupChoice> {
    let nothing = vec![false; group.members.len()];
    let mut choices = vec![evaluate(group, nothing)];
    if !group.fixed {
        let items = items(group, keep_boundary);
        choices.extend(if items.len() <= EXACT_ITEMS { enumerate(group, &items) } else { descend(group, &items) });
    }
    undominated(choices)
}

/// Bytes and seconds of a set of members to run again.
fn evaluate(group: &Group, rerun: Vec<bool>) -> GroupChoice {
    let mut demanded: Vec<u64> = group.members.iter().map(outside_demand).collect();
    let (mut bytes, mut seconds, mut keeps_boundary) = (0, 0.0, true);
    for (index, member) in group.members.iter().enumerate().rev() {
        if demanded[index] == 0 {
            continue;
        }
        if rerun[index] {
            seconds += member.seconds;
            keeps_boundary &= !member.outputs.iter().any(|output| output.crosses);
            for &(operand, output) in &member.operands {
                demanded[operand] |= 1 << output;
            }
        } else {
            let wanted = |(output, _): &(usize, &super::group::Output)| demanded[index] & (1 << output) != 0;
            bytes += member.outputs.iter().enumerate().filter(wanted).map(|(_, output)| output.bytes).sum::<usize>();
        }
    }
    GroupChoice { bytes, seconds, rerun, keeps_boundary }
}

fn outside_demand(member: &Member) -> u64 {
    member
        .outputs
        .iter()
        .enumerate()
        .filter(|(_, output)| output.demanded)
        .fold(0, |mask, (index, _)| mask | 1 << index)
}

/// Members that are decided together.
fn items(group: &Group, keep_boundary: bool) -> Vec<Vec<usize>> {
    let n = group.members.len();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (index, member) in group.members.iter().enumerate() {
        for &(operand, _) in &member.operands {
            if !readers[operand].contains(&index) {
                readers[operand].push(index);
            }
        }
    }
    let bytes = |index: usize| group.members[index].outputs.iter().map(|output| output.bytes).sum::<usize>();
    let mut decided_with: Vec<Option<usize>> = vec![None; n];
    let mut needed = vec![false; n];
    for index in (0..n).rev() {
        let member = &group.members[index];
        let outside = outside_demand(member) != 0;
        needed[index] = outside || readers[index].iter().any(|&reader| needed[reader]);
        let boundary = keep_boundary && member.outputs.iter().any(|output| output.crosses);
        if !needed[index] || !member.may_rerun || boundary {
            continue;
        }
        decided_with[index] = match readers[index][..] {
            [reader] if !outside && bytes(index) >= bytes(reader) => decided_with[reader].or(Some(index)),
            _ => Some(index),
        };
    }
    let largest = (0..n).filter(|&index| decided_with[index].is_some()).map(bytes).max().unwrap_or(0);
    let mut items: Vec<Vec<usize>> = Vec::new();
    let mut small: Vec<usize> = Vec::new();
    for leader in (0..n).filter(|&index| decided_with[index] == Some(index)) {
        let members: Vec<usize> = (0..n).filter(|&index| decided_with[index] == Some(leader)).collect();
        if bytes(leader) * SMALL_PART <= largest { small.extend(members) } else { items.push(members) }
    }
    if !small.is_empty() {
        items.push(small);
    }
    items
}

fn rerun_of(group: &Group, items: &[Vec<usize>], chosen: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut rerun = vec![false; group.members.len()];
    for (_, members) in items.iter().enumerate().filter(|(item, _)| chosen(*item)) {
        members.iter().for_each(|&member| rerun[member] = true);
    }
    rerun
}

fn enumerate(group: &Group, items: &[Vec<usize>]) -> Vec<GroupChoice> {
    let mut choices = Vec::new();
    for mask in 1u32..1 << items.len() {
        choices.push(evaluate(group, rerun_of(group, items, |item| mask & (1 << item) != 0)));
        if choices.len() >= 4096 {
            choices = undominated(choices);
        }
    }
    choices
}

/// Every set met while minimising seconds + λ·bytes by flips of one or two items, for λ from small to large, and from
/// large to small. A local optimum per λ; the sets passed on the way count, too.
fn descend(group: &Group, items: &[Vec<usize>]) -> Vec<GroupChoice> {
    const PRICES: i32 = 24;
    let mut seen: HashSet<Vec<bool>> = HashSet::new();
    let mut choices = Vec::new();
    let scale = group.members.iter().map(|member| member.seconds).sum::<f64>()
        / group.members.iter().flat_map(|m| &m.outputs).map(|output| output.bytes as f64).sum::<f64>().max(1.0);
    for (start, sign) in [(false, 1), (true, -1)] {
        let mut chosen = vec![start; items.len()];
        for step in 0..PRICES {
            let price = scale * 2f64.powi(sign * (step - PRICES / 2));
            loop {
                let mut consider = |chosen: &[bool]| {
                    let choice = evaluate(group, rerun_of(group, items, |item| chosen[item]));
                    let value = choice.seconds + price * choice.bytes as f64;
                    if seen.insert(chosen.to_vec()) {
                        choices.push(choice);
                    }
                    value
                };
                let mut best = (consider(&chosen), None);
                for first in 0..items.len() {
                    for second in first..items.len() {
                        let mut flipped = chosen.clone();
                        flipped[first] = !flipped[first];
                        if second != first {
                            flipped[second] = !flipped[second];
                        }
                        let value = consider(&flipped);
                        if value < best.0 * (1.0 - 1e-12) {
                            best = (value, Some(flipped));
                        }
                    }
                }
                match best.1 {
                    Some(better) => chosen = better,
                    None => break,
                }
            }
            choices = undominated(choices);
        }
    }
    choices
}

/// Fewest bytes first; each next choice has more bytes and fewer seconds.
fn undominated(mut choices: Vec<GroupChoice>) -> Vec<GroupChoice> {
    choices.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.seconds.total_cmp(&b.seconds)));
    let mut best = f64::INFINITY;
    choices.retain(|choice| {
        let better = choice.seconds < best;
        if better {
            best = choice.seconds;
        }
        better
    });
    choices
}
