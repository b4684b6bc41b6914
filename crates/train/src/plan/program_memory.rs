//! What the program itself takes beside what a run plans: code and libraries, compiled plans, the tokenizer, measuring.
//!
//! Invariant: what is counted follows from the settings, the model and the data, so that the same command has the same
//! account every time, in `plan` as in `train`, and a run that goes on has that of the run before it. What the process
//! really holds counts only where it is clearly more, as in a program that has done other things before. The constants are
//! held to measured peaks by the tests of the command line.

use crate::plan::process_memory::{process_bytes, resident_bytes};
use remat_step::device::release_freed_memory;

/// For code that runs first after the account is made, buffers of files, rounding to pages, stacks and the allocator's own
/// tables: two to three MiB where it was measured, and no slack to hide an error in.
pub(crate) const RESERVE_BYTES: usize = 4 << 20;

/// Code, libraries, the allocator's own tables and stacks, of which the reserve covers two to three MiB. Most of it are pages of
/// the binary: 16 MiB of a release build of 34, 20 of one of 43 as CI makes it. How many of them are mapped beside those that
/// run depends on what the system has cached.
const PROGRAM_BYTES: usize = 20 << 20;

/// A plan's step with its node and values: 1.6 to 1.9 KiB where it was measured.
const STEP_BYTES: usize = 2 << 10;

/// The same at most while plans are made and searched for: 3.8 to 4.1 KiB where it was measured.
const PLANNING_STEP_BYTES: usize = 5 << 10;

/// What measuring prices holds beside the threads' scratch: 310 to 328 MiB where it was measured.
pub(crate) const MEASURING_BYTES: usize = 340 << 20;

/// What a run holds beside `data_bytes` of samples while it goes, of plans of so many steps together.
pub(crate) fn program_bytes(data_bytes: usize, steps: usize) -> usize {
    release_freed_memory();
    let held = (resident_bytes() as usize).saturating_sub(data_bytes);
    or_more(PROGRAM_BYTES + steps * STEP_BYTES, held)
}

/// What a run holds at most before it is loaded. `reading_bytes` are a tokenizer's, `measuring_bytes` those of prices that
/// this process measures.
pub(crate) fn earlier_bytes(data_bytes: usize, reading_bytes: usize, measuring_bytes: usize, steps: usize) -> usize {
    let most = reading_bytes.max(measuring_bytes).max(steps * PLANNING_STEP_BYTES);
    let highest = process_bytes("VmHWM:").unwrap_or(0) as usize;
    or_more(PROGRAM_BYTES + data_bytes + most, highest)
}

/// What is counted, or what was seen where that is more than the reserve covers.
fn or_more(counted: usize, seen: usize) -> usize {
    if seen > counted + RESERVE_BYTES { seen.next_multiple_of(1 << 20) } else { counted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_counts_only_where_it_is_clearly_more() {
        let counted = 20 << 20;
        for seen in [0, counted, counted + 1, counted + RESERVE_BYTES] {
            assert_eq!(or_more(counted, seen), counted, "{seen}");
        }
        assert_eq!(or_more(counted, counted + RESERVE_BYTES + 1), counted + RESERVE_BYTES + (1 << 20));
    }

    #[test]
    fn what_comes_before_a_run_is_the_largest_of_what_it_does() {
        // Beyond what this test's own process holds.
        let mib = |count: usize| count << 20;
        assert_eq!(earlier_bytes(mib(1000), mib(300), 0, 10), PROGRAM_BYTES + mib(1300));
        assert_eq!(earlier_bytes(mib(1000), mib(300), mib(400), 10), PROGRAM_BYTES + mib(1400));
        assert_eq!(earlier_bytes(mib(1000), 0, 0, 1 << 20), PROGRAM_BYTES + mib(1000) + (5 << 30));
    }
}
