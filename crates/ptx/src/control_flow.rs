//! Where the lanes that a branch parts meet again: its immediate post-dominator.
//!
//! Post-dominators are found by intersecting paths up the tree until nothing changes (Cooper, Harvey, Kennedy, "A Simple, Fast
//! Dominance Algorithm", 2001), over the reversed graph of instructions, whose root is the end of the kernel.

use crate::program::{Instr, Step};

/// "After the last instruction": lanes that meet nowhere else meet there.
pub(crate) const END: u32 = u32::MAX;

/// Sets every branch's `join`.
pub(crate) fn join_branches(steps: &mut [Step]) {
    let count = steps.len();
    let next: Vec<Vec<usize>> = (0..count).map(|at| followers(steps, at)).collect();
    let mut before = vec![Vec::new(); count + 1];
    for (at, after) in next.iter().enumerate() {
        after.iter().for_each(|&to| before[to].push(at));
    }
    let order = order_from_end(&before);
    let mut rank = vec![usize::MAX; count + 1];
    order.iter().enumerate().for_each(|(position, &at)| rank[at] = position);
    let mut join = vec![usize::MAX; count + 1];
    join[count] = count;
    let mut changed = true;
    while changed {
        changed = false;
        for &at in order.iter().skip(1) {
            let known = next[at].iter().copied().filter(|&to| join[to] != usize::MAX);
            let Some(found) = known.reduce(|a, b| meet(&join, &rank, a, b)) else { continue };
            changed |= join[at] != found;
            join[at] = found;
        }
    }
    for (at, step) in steps.iter_mut().enumerate() {
        if let Instr::Branch { join: meets, .. } = &mut step.instr {
            *meets = u32::try_from(join[at]).ok().filter(|&to| (to as usize) < count).unwrap_or(END);
        }
    }
}

fn meet(join: &[usize], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        if rank[a] > rank[b] {
            a = join[a];
        } else {
            b = join[b];
        }
    }
    a
}

fn followers(steps: &[Step], at: usize) -> Vec<usize> {
    let falls = steps[at].guard.is_some();
    let mut after = match steps[at].instr {
        Instr::Branch { target, .. } => vec![target as usize],
        Instr::Exit | Instr::Trap => vec![steps.len()],
        _ => return vec![at + 1],
    };
    if falls {
        after.push(at + 1);
    }
    after
}

/// Reverse post-order of a walk from the end against the flow.
fn order_from_end(before: &[Vec<usize>]) -> Vec<usize> {
    let end = before.len() - 1;
    let mut seen = vec![false; before.len()];
    let mut order = Vec::new();
    let mut stack = vec![(end, 0)];
    seen[end] = true;
    while let Some((at, child)) = stack.pop() {
        match before[at].get(child) {
            Some(&to) => {
                stack.push((at, child + 1));
                if !std::mem::replace(&mut seen[to], true) {
                    stack.push((to, 0));
                }
            }
            None => order.push(at),
        }
    }
    order.reverse();
    order
}
