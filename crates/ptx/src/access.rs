//! Loads, stores and atomics of a warp: each lane's address is found, checked and used.

use crate::atomic::combine;
use crate::convert::signed as extended;
use crate::error::Fault;
use crate::lane_error::LaneResult;
use crate::memory::{Memory, Region};
use crate::program::{Address, Instr, LOCAL_BASE, SHARED_BASE, Space, Vector};
use crate::store::{Store, Who, Wrong, one_thread};
use crate::warp::{Warp, lane_of, lanes};

/// What a warp can reach, and when it does.
pub(crate) struct Access<'a> {
    pub memory: &'a mut Memory,
    pub regions: &'a [Region],
    pub shared: &'a mut Store,
    pub constants: &'a [u8],
    pub params: &'a [u8],
    pub threads: u32,
    pub who: Who,
    /// See [`crate::Ran::bank_conflicts`].
    pub conflicts: u64,
}

const WINDOW: u64 = SHARED_BASE;
/// The widest access, and a row of `ldmatrix`.
const WIDE: usize = 16;

impl Access<'_> {
    /// Sets who accesses from here on.
    pub fn enter_warp(&mut self, block: u32, threads: u32, warp: &Warp) {
        self.threads = threads;
        self.who.first_lane = block * threads + warp.first_thread;
        self.who.sync_at = warp.sync_at;
    }

    fn tick(&mut self) -> u32 {
        self.memory.clock += 1;
        self.who.now = self.memory.clock;
        self.who.now
    }

    /// All threads of the block have met.
    pub fn pass_barrier(&mut self) {
        self.who.barrier_at = self.tick();
    }

    /// The lanes of a warp have met.
    pub fn pass_warp_sync(&mut self, warp: &mut Warp) {
        warp.sync_at = self.tick();
        self.who.sync_at = warp.sync_at;
    }

    /// Runs a load, a store, an atomic or `ldmatrix`.
    pub fn run(&mut self, warp: &mut Warp, instr: &Instr, active: u32) -> LaneResult<()> {
        match *instr {
            Instr::Load { ref d, ref from, signed, wide } => {
                if d.all_bytes() == WIDE {
                    self.note_conflicts(warp, from, active);
                }
                for lane in lanes(active) {
                    let mut bytes = [0; 16];
                    let count = d.all_bytes();
                    self.load(warp, from, lane, &mut bytes[..count]).map_err(|fault| (lane, fault))?;
                    spread(warp, d, lane, &bytes, signed.then_some(wide));
                }
            }
            Instr::Store { ref to, ref values } => {
                if values.all_bytes() == WIDE {
                    self.note_conflicts(warp, to, active);
                }
                for lane in lanes(active) {
                    let bytes = warp.gather(values, lane);
                    self.store(warp, to, lane, &bytes[..values.all_bytes()]).map_err(|fault| (lane, fault))?;
                }
            }
            Instr::Atomic { op, signed, bytes, d, ref at, b, c } => {
                for lane in lanes(active) {
                    let (b, c) = (warp.row(b)[lane], warp.row(c)[lane]);
                    let f = |old| combine(op, signed, bytes, old, b, c);
                    let old = self.atomic(warp, at, lane, bytes.into(), f).map_err(|fault| (lane, fault))?;
                    warp.row_mut(d)[lane] = old;
                }
            }
            Instr::LoadMatrix { ref d, ref from, transposed } => self.matrices(warp, d, from, transposed, active)?,
            _ => {}
        }
        Ok(())
    }

    /// Space and address within it of a lane's access, aligned.
    pub fn resolve(&self, warp: &Warp, at: &Address, lane: usize, bytes: usize) -> Result<(Space, u64), Fault> {
        let address = warp.row(at.base)[lane].wrapping_add(at.offset as u64);
        let (space, address) = match at.space {
            Space::Generic if (SHARED_BASE..SHARED_BASE + WINDOW).contains(&address) => {
                (Space::Shared, address - SHARED_BASE)
            }
            Space::Generic if (LOCAL_BASE..LOCAL_BASE + WINDOW).contains(&address) => {
                (Space::Local, address - LOCAL_BASE)
            }
            Space::Generic => (Space::Global, address),
            space => (space, address),
        };
        if address % bytes as u64 != 0 {
            return Err(Fault::Misaligned { space: name(space), address, bytes: bytes as u32 });
        }
        Ok((space, address))
    }

    /// Reads global memory, as the source of an asynchronous copy does, too.
    pub fn read_global(&mut self, address: u64, out: &mut [u8], lane: usize) -> Result<(), Fault> {
        let who = lane_of(&self.who, lane);
        self.global(address, out.len(), false)?;
        let (store, offset) = self.located(address, out.len())?;
        store.read(offset, out, &who).map_err(|wrong| self.fault(Space::Global, address, offset, wrong))
    }

    fn load(&mut self, warp: &Warp, from: &Address, lane: usize, out: &mut [u8]) -> Result<(), Fault> {
        let (space, address) = self.resolve(warp, from, lane, out.len())?;
        match space {
            Space::Global | Space::Generic => self.read_global(address, out, lane),
            Space::Shared => {
                let (who, offset) = self.shared_at(address, out.len(), lane)?;
                self.shared.read(offset, out, &who).map_err(|wrong| self.fault(space, address, offset, wrong))
            }
            Space::Local => {
                let range = local_range(warp, address, out.len(), lane)?;
                if let Some(at) = warp.local_written[range.clone()].iter().position(|&written| !written) {
                    return Err(Fault::Uninitialised { space: name(space), address: address + at as u64 });
                }
                out.copy_from_slice(&warp.local[range]);
                Ok(())
            }
            Space::Const | Space::Param => {
                let bytes = if space == Space::Const { self.constants } else { self.params };
                let from = usize::try_from(address).ok().and_then(|at| bytes.get(at..)?.get(..out.len()));
                out.copy_from_slice(from.ok_or_else(|| outside(space, address, out.len()))?);
                Ok(())
            }
        }
    }

    fn store(&mut self, warp: &mut Warp, to: &Address, lane: usize, bytes: &[u8]) -> Result<(), Fault> {
        let (space, address) = self.resolve(warp, to, lane, bytes.len())?;
        match space {
            Space::Shared => {
                let (who, offset) = self.shared_at(address, bytes.len(), lane)?;
                self.shared.write(offset, bytes, &who).map_err(|wrong| self.fault(space, address, offset, wrong))
            }
            Space::Local => {
                let range = local_range(warp, address, bytes.len(), lane)?;
                warp.local[range.clone()].copy_from_slice(bytes);
                warp.local_written[range].fill(true);
                Ok(())
            }
            _ => {
                let who = lane_of(&self.who, lane);
                self.global(address, bytes.len(), true)?;
                let (store, offset) = self.located(address, bytes.len())?;
                store.write(offset, bytes, &who).map_err(|wrong| self.fault(Space::Global, address, offset, wrong))
            }
        }
    }

    fn atomic(
        &mut self,
        warp: &Warp,
        at: &Address,
        lane: usize,
        bytes: usize,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, Fault> {
        let (space, address) = self.resolve(warp, at, lane, bytes)?;
        if space == Space::Shared {
            let (who, offset) = self.shared_at(address, bytes, lane)?;
            return self
                .shared
                .update(offset, bytes, &who, f)
                .map_err(|wrong| self.fault(space, address, offset, wrong));
        }
        let who = lane_of(&self.who, lane);
        self.global(address, bytes, true)?;
        let (store, offset) = self.located(address, bytes)?;
        store.update(offset, bytes, &who, f).map_err(|wrong| self.fault(Space::Global, address, offset, wrong))
    }

    /// `ldmatrix`: lane 8i + r gives the address of row r of matrix i; lane l gets elements 2 (l % 4) and the next of row l / 4,
    /// or of that column where the matrix is transposed.
    fn matrices(
        &mut self,
        warp: &mut Warp,
        d: &Vector,
        from: &Address,
        transposed: bool,
        active: u32,
    ) -> LaneResult<()> {
        if active != u32::MAX {
            let fault = Fault::Divergent { operation: "ldmatrix", active, expected: u32::MAX };
            return Err((active.trailing_zeros() as usize, fault));
        }
        self.note_conflicts(warp, from, u32::MAX >> (32 - 8 * d.count));
        for (index, &row) in d.rows().iter().enumerate() {
            let mut matrix = [[0u16; 8]; 8];
            for (r, elements) in matrix.iter_mut().enumerate() {
                let lane = 8 * index + r;
                let mut bytes = [0; 16];
                self.load(warp, from, lane, &mut bytes).map_err(|fault| (lane, fault))?;
                for (element, pair) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
                    *element = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            warp.set(row, active, |lane| {
                let (g, t) = (lane / 4, 2 * (lane % 4));
                let at = |i: usize| u64::from(if transposed { matrix[t + i][g] } else { matrix[g][t + i] });
                at(0) | at(1) << 16
            });
        }
        Ok(())
    }

    /// Counts what accesses of 16 bytes cost beyond what they must: eight lanes go together, each over four of 32 banks of four
    /// bytes; different addresses in the same banks follow one another.
    pub fn note_conflicts(&mut self, warp: &Warp, at: &Address, active: u32) {
        for eight in (0..4).map(|index| active & 0xff << (8 * index)) {
            let address = |lane| match self.resolve(warp, at, lane, WIDE) {
                Ok((Space::Shared, address)) => Some(address / WIDE as u64),
                _ => None,
            };
            let mut places: Vec<u64> = lanes(eight).filter_map(address).collect();
            places.sort_unstable();
            places.dedup();
            let of_bank = |bank| places.iter().filter(|&place| place % 8 == bank).count();
            let most = (0..8).map(of_bank).max().unwrap_or(0);
            self.conflicts += most.saturating_sub(1) as u64;
        }
    }

    /// Checks a global range against the launch's regions.
    fn global(&self, address: u64, bytes: usize, writes: bool) -> Result<(), Fault> {
        let holds = |region: &&Region| {
            let inside = address.checked_sub(region.address).and_then(|offset| offset.checked_add(bytes as u64));
            inside.is_some_and(|end| end <= region.bytes)
        };
        let mut found = self.regions.iter().filter(holds).peekable();
        if found.peek().is_none() {
            return Err(outside(Space::Global, address, bytes));
        }
        if writes && !found.any(|region| region.writable) {
            return Err(Fault::ReadOnly { address });
        }
        Ok(())
    }

    fn located(&mut self, address: u64, bytes: usize) -> Result<(&mut Store, usize), Fault> {
        self.memory.locate(address, bytes).ok_or_else(|| outside(Space::Global, address, bytes))
    }

    /// Who accesses shared memory, and the offset of an access that lies in it. Blocks do not share it.
    pub fn shared_at(&self, address: u64, bytes: usize, lane: usize) -> Result<(Who, usize), Fault> {
        let end = address.checked_add(bytes as u64);
        if end.is_none_or(|end| end > self.shared.len() as u64) {
            return Err(outside(Space::Shared, address, bytes));
        }
        let who = lane_of(&self.who, lane);
        Ok((Who { launch_at: who.block_at, ..who }, address as usize))
    }

    /// What is wrong, in terms of addresses and threads.
    pub fn fault(&self, space: Space, address: u64, offset: usize, wrong: Wrong) -> Fault {
        let at = |byte: usize| address + (byte - offset) as u64;
        match wrong {
            Wrong::Unwritten(byte) => Fault::Uninitialised { space: name(space), address: at(byte) },
            Wrong::Pending(byte) => Fault::CopyPending { address: at(byte) },
            Wrong::Race(byte, by) => {
                let by = one_thread(by);
                let (other, other_block) = (by % self.threads, by / self.threads);
                Fault::Race { space: name(space), address: at(byte), other, other_block }
            }
        }
    }
}

fn spread(warp: &mut Warp, d: &Vector, lane: usize, bytes: &[u8; 16], signed: Option<u64>) {
    let width = usize::from(d.bytes);
    for (index, &row) in d.rows().iter().enumerate() {
        let mut value = [0; 8];
        value[..width].copy_from_slice(&bytes[index * width..][..width]);
        let value = u64::from_le_bytes(value);
        warp.row_mut(row)[lane] = match signed {
            Some(wide) => extended(value, d.bytes) as u64 & wide,
            None => value,
        };
    }
}

fn local_range(warp: &Warp, address: u64, bytes: usize, lane: usize) -> Result<std::ops::Range<usize>, Fault> {
    let each = warp.local.len() / 32;
    let end = usize::try_from(address).ok().and_then(|at| at.checked_add(bytes)).filter(|&end| end <= each);
    let end = end.ok_or_else(|| outside(Space::Local, address, bytes))?;
    Ok(lane * each + end - bytes..lane * each + end)
}

fn outside(space: Space, address: u64, bytes: usize) -> Fault {
    Fault::OutOfBounds { space: name(space), address, bytes: bytes as u32 }
}

fn name(space: Space) -> &'static str {
    match space {
        Space::Generic | Space::Global => "global",
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Const => "constant",
        Space::Param => "parameter",
    }
}
