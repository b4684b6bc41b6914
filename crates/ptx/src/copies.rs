//! `cp.async`: bytes on their way to shared memory are nobody's until the thread that sent them has waited.

use crate::access::Access;
use crate::error::Fault;
use crate::lane_error::LaneResult;
use crate::program::{Address, Instr, Row, Space};
use crate::warp::{Copy, Warp, lanes};

/// Runs a copy, a commit or a wait.
pub(crate) fn run(access: &mut Access, warp: &mut Warp, instr: &Instr, active: u32) -> LaneResult<()> {
    if let Instr::CopyAsync { ref to, bytes: 16, .. } = *instr {
        access.note_conflicts(warp, to, active);
    }
    for lane in lanes(active) {
        match *instr {
            Instr::CopyAsync { ref to, ref from, bytes, given } => {
                let copy = issue(access, warp, (to, from), bytes, given, lane).map_err(|fault| (lane, fault))?;
                warp.copies[lane].open.push(copy);
            }
            Instr::CopyCommit => {
                let group = std::mem::take(&mut warp.copies[lane].open);
                warp.copies[lane].groups.push_back(group);
            }
            Instr::CopyWait { open } => wait(access, warp, open, lane).map_err(|fault| (lane, fault))?,
            _ => {}
        }
    }
    Ok(())
}

fn issue(
    access: &mut Access,
    warp: &Warp,
    (to, from): (&Address, &Address),
    bytes: u32,
    given: Option<Row>,
    lane: usize,
) -> Result<Copy, Fault> {
    let bytes = bytes as usize;
    let (_, target) = access.resolve(warp, to, lane, bytes)?;
    let (_, source) = access.resolve(warp, from, lane, bytes)?;
    let given = given.map_or(bytes, |row| warp.row(row)[lane] as usize);
    if given > bytes {
        return Err(Fault::OutOfBounds { space: "global", address: source, bytes: given as u32 });
    }
    let mut data = [0; 16];
    // What is not given is filled with zeros, and not read.
    if given > 0 {
        access.read_global(source, &mut data[..given], lane)?;
    }
    let (who, offset) = access.shared_at(target, bytes, lane)?;
    access.shared.begin(offset, bytes, &who).map_err(|wrong| access.fault(Space::Shared, target, offset, wrong))?;
    Ok(Copy { offset, bytes, data })
}

fn wait(access: &mut Access, warp: &mut Warp, open: Option<u32>, lane: usize) -> Result<(), Fault> {
    let copies = &mut warp.copies[lane];
    if open.is_none() {
        let uncommitted = std::mem::take(&mut copies.open);
        copies.groups.push_back(uncommitted);
    }
    while copies.groups.len() > open.unwrap_or(0) as usize {
        for copy in copies.groups.pop_front().unwrap_or_default() {
            let (who, offset) = access.shared_at(copy.offset as u64, copy.bytes, lane)?;
            let done = access.shared.complete(offset, &copy.data[..copy.bytes], &who);
            done.map_err(|wrong| access.fault(Space::Shared, copy.offset as u64, offset, wrong))?;
        }
    }
    Ok(())
}

/// A thread that ends must have waited for all it sent.
pub(crate) fn refuse_abandoned(warp: &Warp, ending: u32) -> LaneResult<()> {
    let left = |lane: &usize| {
        let copies = &warp.copies[*lane];
        !copies.open.is_empty() || copies.groups.iter().any(|group| !group.is_empty())
    };
    lanes(ending).find(left).map_or(Ok(()), |lane| Err((lane, Fault::CopyAbandoned)))
}
