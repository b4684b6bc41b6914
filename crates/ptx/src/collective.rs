//! Operations of a warp's lanes together: shuffles, votes, reductions, and who must take part.
//!
//! A card lets the lanes that a mask names wait for each other; here they must be together, for a mask that names a lane which
//! is elsewhere, or leaves out one that is here, is a mistake in the kernel.

use crate::atomic::combine;
use crate::error::Fault;
use crate::lane_error::LaneResult;
use crate::program::{Instr, Row, ShuffleMode, VoteMode};
use crate::warp::{Lanes, Warp, lanes};

/// All of `expected` must be here.
pub(crate) fn expect_all(operation: &'static str, active: u32, expected: u32) -> LaneResult<()> {
    let lane = active.trailing_zeros() as usize;
    if active == expected { Ok(()) } else { Err((lane, Fault::Divergent { operation, active, expected })) }
}

/// Exactly the lanes of the mask must be here, and each must name the same.
pub(crate) fn expect_members(warp: &Warp, operation: &'static str, members: Row, active: u32) -> LaneResult<()> {
    let masks = warp.row(members);
    let first = active.trailing_zeros() as usize;
    if let Some(lane) = lanes(active).find(|&lane| masks[lane] != masks[first]) {
        return Err((lane, Fault::NotUniform { what: "the mask of lanes that take part" }));
    }
    // A full mask in a last warp of fewer threads names lanes that do not exist.
    expect_all(operation, active, masks[first] as u32)
}

/// Runs a shuffle, a vote or a reduction.
pub(crate) fn run(warp: &mut Warp, instr: &Instr, active: u32) -> LaneResult<()> {
    match *instr {
        Instr::Shuffle { mode, d, found, a, b, c, members } => {
            expect_members(warp, "shfl.sync", members, active)?;
            shuffle(warp, mode, (d, found), (a, b, c), active)
        }
        Instr::Vote { mode, d, negated, a, members } => {
            expect_members(warp, "vote.sync", members, active)?;
            let yes = warp.guarded(a, negated, active);
            let result = match mode {
                VoteMode::All => u32::from(yes == active),
                VoteMode::Any => u32::from(yes != 0),
                VoteMode::Uniform => u32::from(yes == active || yes == 0),
                VoteMode::Ballot => yes,
            };
            warp.set(d, active, |_| result.into());
            Ok(())
        }
        Instr::Reduce { op, signed, d, a, members } => {
            expect_members(warp, "redux.sync", members, active)?;
            let values = *warp.row(a);
            let all = lanes(active).map(|lane| values[lane]).reduce(|x, y| combine(op, signed, 4, x, y, 0));
            warp.set(d, active, |_| all.unwrap_or(0));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `shfl.sync` as the PTX ISA's pseudocode has it: `c` holds the clamp in its low bits and the segment's mask above.
fn shuffle(
    warp: &mut Warp,
    mode: ShuffleMode,
    (d, found): (Row, Row),
    (a, b, c): (Row, Row, Row),
    active: u32,
) -> LaneResult<()> {
    let (a, b, c) = (*warp.row(a), *warp.row(b), *warp.row(c));
    let mut values: Lanes = [0; 32];
    let mut inside: Lanes = [0; 32];
    for lane in lanes(active) {
        let (b, clamp, segment) = (b[lane] as i64 & 31, c[lane] as i64 & 31, c[lane] as i64 >> 8 & 31);
        let own = lane as i64;
        let last = (own & segment) | (clamp & !segment);
        let (from, within) = match mode {
            ShuffleMode::Up => (own - b, own - b >= last),
            ShuffleMode::Down => (own + b, own + b <= last),
            ShuffleMode::Butterfly => (own ^ b, (own ^ b) <= last),
            ShuffleMode::Index => {
                let from = (own & segment) | (b & !segment & 31);
                (from, from <= last)
            }
        };
        let from = if within { from as usize } else { lane };
        if active >> from & 1 == 0 {
            return Err((lane, Fault::ShuffleFromAbsent { lane: from as u32 }));
        }
        (values[lane], inside[lane]) = (a[from], within.into());
    }
    warp.set(d, active, |lane| values[lane]);
    if found != 0 {
        warp.set(found, active, |lane| inside[lane]);
    }
    Ok(())
}
