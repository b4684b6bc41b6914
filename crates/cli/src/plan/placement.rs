//! Where frozen weights lie, layer by layer, and training states, kind by kind; and what decides how little memory there can be.
//!
//! Invariant: derived from the plan's own steps, so it says what will run.

use crate::units::bytes;
use remat_train::{PlacedStates, PlacedWeights, RunPlan, WeightTier};
use std::fmt::Write;

/// The table; layers that are placed alike, one after the other, are shown once.
pub(super) fn table(plan: &RunPlan) -> String {
    let mut page = String::from("\nwhere frozen weights lie\n");
    if plan.placement.is_empty() {
        let weights = bytes(plan.micro.resident_weight_bytes() as u64);
        let _ = writeln!(page, "  all {weights} in memory");
        return match plan.states.is_empty() {
            true => page,
            false => page + &states(plan) + &decides(plan),
        };
    }
    for alike in plan.placement.chunk_by(|a, b| of_place(a) == of_place(b)) {
        let (first, last) = (&alike[0], &alike[alike.len() - 1]);
        let name = match alike.len() {
            1 => first.module.clone(),
            count => format!("{} to {}, each of {count}", first.module, last.module),
        };
        // Writing to a string cannot fail.
        let _ =
            writeln!(page, "  {:>10}  {:<14} {name}{}", bytes(first.bytes as u64), first.tier.as_str(), read(first));
    }
    page + &states(plan) + &decides(plan)
}

/// Training states, kind by kind; nothing where all are in memory.
fn states(plan: &RunPlan) -> String {
    let of = |placed: &PlacedStates| {
        let [memory, disk, read, written] =
            [placed.memory_bytes, placed.disk_bytes, placed.read_bytes, placed.written_bytes]
                .map(|of| bytes(of as u64));
        match placed.disk_bytes {
            0 => format!("  {memory:>10}  memory         {}\n", placed.kind.as_str()),
            _ => format!(
                "  {disk:>10}  disk           {}: {read} read and {written} written an update at most; {memory} in memory\n",
                placed.kind.as_str()
            ),
        }
    };
    match plan.states.is_empty() {
        true => String::new(),
        false => String::from("where training states lie\n") + &plan.states.iter().map(of).collect::<String>(),
    }
}

/// Whatever is shown of weights beside their names.
fn of_place(placed: &PlacedWeights) -> (WeightTier, usize, usize, usize) {
    (placed.tier, placed.bytes, placed.read_bytes, placed.fetches)
}

fn read(placed: &PlacedWeights) -> String {
    let read = bytes(placed.read_bytes as u64);
    match (placed.tier, placed.by_rows) {
        (WeightTier::Host, _) => String::new(),
        (_, true) => format!(": {read} read a micro-step, the rows that are looked up"),
        (_, false) => format!(": {read} read a micro-step, {} times", placed.fetches),
    }
}

/// What the peak is made of that no placement of weights changes, and what the least of all plans is.
fn decides(plan: &RunPlan) -> String {
    let (memory, micro) = (&plan.account, &plan.micro);
    let resident = micro.resident_weight_bytes();
    let rest = memory.peak_bytes(plan.domain).saturating_sub(resident + micro.arena_bytes);
    format!(
        "  the peak of {} is {} of weights in memory, an arena of {} and {} of all else; the least that any placement takes is {}\n",
        bytes(memory.peak_bytes(plan.domain) as u64),
        bytes(resident as u64),
        bytes(micro.arena_bytes as u64),
        bytes(rest as u64),
        bytes(plan.smallest_memory_bytes as u64)
    )
}
