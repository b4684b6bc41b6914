//! One block: its warps run in a shuffled order from barrier to barrier, one instruction of a warp at a time.

use crate::access::Access;
use crate::error::{Fault, PtxError};
use crate::lane_error::LaneResult;
use crate::lanes::LaneFn;
use crate::program::{Instr, Program, Row, Step};
use crate::shuffle::Shuffle;
use crate::warp::{Place, Warp, lanes};
use crate::{collective, copies, tensor_core};

/// What one block's run needs.
pub(crate) struct Block<'a> {
    pub program: &'a Program,
    pub place: Place,
    pub linear: u32,
    pub access: Access<'a>,
    pub shuffle: &'a mut Shuffle,
    pub limit: u64,
    /// Thread instructions that were run.
    pub count: u64,
}

impl Block<'_> {
    /// Runs the block to its end.
    pub fn run(&mut self) -> Result<(), PtxError> {
        let threads: u32 = self.place.block.iter().product();
        let mut warps: Vec<Warp> = (0..threads.div_ceil(32)).map(|i| Warp::new(self.program, &self.place, i)).collect();
        let mut left = self.limit;
        loop {
            for index in self.shuffle.order(warps.len()) {
                if !warps[index].ended() {
                    self.run_warp(&mut warps[index], &mut left)?;
                }
            }
            let waiting: Vec<_> = warps.iter().map(|warp| warp.waits_at).collect();
            if waiting.iter().all(Option::is_none) {
                return Ok(());
            }
            if waiting.iter().any(|id| *id != waiting[0]) {
                return Err(self.not_reached(&mut warps));
            }
            self.access.pass_barrier();
            warps.iter_mut().for_each(|warp| warp.waits_at = None);
        }
    }

    /// Some warps wait and others do not, or elsewhere: the error is of the first that waits, at its barrier.
    fn not_reached(&self, warps: &mut [Warp]) -> PtxError {
        let index = warps.iter().position(|warp| warp.waits_at.is_some()).unwrap_or(0);
        let warp = &mut warps[index];
        // A warp that waits has gone past its barrier.
        let barrier = warp.next().map_or(0, |(at, _)| (at as usize).saturating_sub(1));
        let line = self.program.steps.get(barrier).map_or(0, |step| step.line);
        self.error(line, warp, (0, Fault::BarrierNotReached))
    }

    fn error(&self, line: u32, warp: &Warp, (lane, fault): (usize, Fault)) -> PtxError {
        let thread = warp.first_thread + lane as u32;
        PtxError::Run { kernel: self.program.name.clone(), line, block: self.linear, thread, fault }
    }

    /// Runs a warp until it waits or ends.
    fn run_warp(&mut self, warp: &mut Warp, left: &mut u64) -> Result<(), PtxError> {
        self.access.enter_warp(self.linear, self.place.block.iter().product(), warp);
        let program = self.program;
        while let Some((at, mask)) = warp.next() {
            let step = &program.steps[at as usize];
            if *left == 0 {
                let lane = mask.trailing_zeros() as usize;
                return Err(self.error(step.line, warp, (lane, Fault::TooLong { limit: self.limit })));
            }
            *left -= 1;
            let active = match step.guard {
                Some((row, negated)) => warp.guarded(row, negated, mask),
                None => mask,
            };
            self.count += u64::from(active.count_ones());
            self.step(warp, step, active).map_err(|fault| self.error(step.line, warp, fault))?;
            if warp.waits_at.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, warp: &mut Warp, step: &Step, active: u32) -> LaneResult<()> {
        match step.instr {
            Instr::Branch { target, join } => {
                let first = self.shuffle.bit();
                warp.branch(target, join, active, first);
                return Ok(());
            }
            Instr::Exit => {
                copies::refuse_abandoned(warp, active)?;
                warp.exit(active);
                return Ok(());
            }
            _ if active == 0 => {}
            Instr::Trap => return Err((active.trailing_zeros() as usize, Fault::Trap)),
            Instr::Barrier { id } => {
                collective::expect_all("a barrier", active, warp.lanes)?;
                warp.waits_at = Some(id);
            }
            Instr::Lane { .. } | Instr::Divide { .. } | Instr::Convert { .. } | Instr::Compare { .. } => {
                arithmetic(warp, &step.instr, active)?;
            }
            Instr::Pack { .. } | Instr::Unpack { .. } => repack(warp, &step.instr, active),
            Instr::Load { .. } | Instr::Store { .. } | Instr::Atomic { .. } | Instr::LoadMatrix { .. } => {
                self.access.run(warp, &step.instr, active)?;
            }
            Instr::CopyAsync { .. } | Instr::CopyCommit | Instr::CopyWait { .. } => {
                copies::run(&mut self.access, warp, &step.instr, active)?;
            }
            Instr::WarpSync { members } => {
                collective::expect_members(warp, "bar.warp.sync", members, active)?;
                self.access.pass_warp_sync(warp);
            }
            Instr::Mma(ref mma) => {
                collective::expect_all("mma.sync", active, u32::MAX)?;
                tensor_core::multiply(warp, mma);
            }
            Instr::Shuffle { .. } | Instr::Vote { .. } | Instr::Reduce { .. } => {
                collective::run(warp, &step.instr, active)?;
            }
            Instr::Nothing => {}
        }
        warp.advance();
        Ok(())
    }
}

fn arithmetic(warp: &mut Warp, instr: &Instr, active: u32) -> LaneResult<()> {
    match *instr {
        Instr::Lane { f, d, sources } => apply(warp, f, d, sources, active),
        Instr::Divide { f, d, a, b } => {
            if let Some(lane) = lanes(active).find(|&lane| warp.row(b)[lane] == 0) {
                return Err((lane, Fault::DivisionByZero));
            }
            apply(warp, f, d, [a, b, 0, 0], active);
        }
        Instr::Convert { conversion, d, a, wide } => {
            let a = *warp.row(a);
            warp.set(d, active, |lane| conversion.apply(a[lane], wide));
        }
        Instr::Compare { comparison, d, opposite, a, b, with } => {
            let (a, b, with) = (*warp.row(a), *warp.row(b), *warp.row(with));
            warp.set(d, active, |lane| comparison.apply(a[lane], b[lane], with[lane]).0);
            if opposite != 0 {
                warp.set(opposite, active, |lane| comparison.apply(a[lane], b[lane], with[lane]).1);
            }
        }
        _ => {}
    }
    Ok(())
}

fn apply(warp: &mut Warp, f: LaneFn, d: Row, sources: [Row; 4], active: u32) {
    let a = *warp.row(sources[0]);
    match f {
        LaneFn::One(f) => warp.set(d, active, |lane| f(a[lane])),
        LaneFn::Two(f) => {
            let b = *warp.row(sources[1]);
            warp.set(d, active, |lane| f(a[lane], b[lane]));
        }
        LaneFn::Three(f) => {
            let (b, c) = (*warp.row(sources[1]), *warp.row(sources[2]));
            warp.set(d, active, |lane| f(a[lane], b[lane], c[lane]));
        }
        LaneFn::Four(f) => {
            let (b, c, e) = (*warp.row(sources[1]), *warp.row(sources[2]), *warp.row(sources[3]));
            warp.set(d, active, |lane| f(a[lane], b[lane], c[lane], e[lane]));
        }
    }
}

fn repack(warp: &mut Warp, instr: &Instr, active: u32) {
    for lane in lanes(active) {
        match *instr {
            Instr::Pack { d, ref parts } => {
                let bytes = warp.gather(parts, lane);
                let mut low = [0; 8];
                low.copy_from_slice(&bytes[..8]);
                warp.row_mut(d)[lane] = u64::from_le_bytes(low);
            }
            Instr::Unpack { ref parts, a } => {
                let value = warp.row(a)[lane];
                let bits = 8 * u32::from(parts.bytes);
                for (index, &row) in parts.rows().iter().enumerate() {
                    let part = value.checked_shr(bits * index as u32).unwrap_or(0);
                    warp.row_mut(row)[lane] = part & (u64::MAX >> (64 - bits));
                }
            }
            _ => {}
        }
    }
}
