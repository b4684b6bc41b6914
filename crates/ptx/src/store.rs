//! Bytes that many threads share, each with what is known of it: whether it was written, who touched it last, and when.
//!
//! Time is one counter that steps at every barrier of a block and every synchronisation of a warp. Two accesses of different
//! threads to one byte, of which one writes, are a *race* unless an earlier launch, a barrier of the block or a
//! synchronisation of the warp lies between them. What a byte keeps is its last writer and its last reader, or that there were
//! several readers, so no race of two plain accesses within one phase is missed, in whatever order the warps ran.

use std::ops::Range;

const PAGE: usize = 1 << 10;
/// More than one warp of a block has read.
const MANY: u32 = u32::MAX;
/// More than one lane of a warp has read; the rest is the first lane's thread.
const MANY_LANES: u32 = 1 << 31;

/// Who accesses, and the times since which others' accesses are ordered before this one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Who {
    /// Block times threads a block, plus the thread.
    pub thread: u32,
    /// The first thread of the warp, counted alike.
    pub first_lane: u32,
    pub now: u32,
    pub launch_at: u32,
    pub block_at: u32,
    pub barrier_at: u32,
    pub sync_at: u32,
}

/// How memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
    Atomic,
}

/// What is wrong with an access, at which offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Unwritten(usize),
    Pending(usize),
    /// With a thread, counted over the grid, where one thread of the others is known.
    Race(usize, u32),
}

#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    write_by: u32,
    write_at: u32,
    read_by: u32,
    read_at: u32,
    /// `launch_at` of the launch in which several blocks have read.
    blocks_at: u32,
    atomic: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unwritten,
    Written,
    Pending,
}

/// Bytes with their histories.
#[derive(Debug)]
pub(crate) struct Store {
    bytes: Vec<u8>,
    states: Vec<State>,
    pages: Vec<Option<Box<[Touch; PAGE]>>>,
}

impl Store {
    /// So many bytes that nobody has written.
    pub fn new(len: usize) -> Store {
        let pages = (0..len.div_ceil(PAGE)).map(|_| None).collect();
        // A pattern that is NaN in every float type.
        Store { bytes: vec![0xff; len], states: vec![State::Unwritten; len], pages }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Sets bytes from outside any launch.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
        self.states[offset..][..bytes.len()].fill(State::Written);
    }

    /// Forgets what was written: reading is an error again.
    pub fn forget(&mut self, range: Range<usize>) {
        self.bytes[range.clone()].fill(0xff);
        self.states[range].fill(State::Unwritten);
    }

    /// Bytes from outside any launch, or the offset of the first that was never written.
    pub fn get(&self, range: Range<usize>) -> Result<&[u8], usize> {
        match self.states[range.clone()].iter().position(|&state| state != State::Written) {
            Some(at) => Err(range.start + at),
            None => Ok(&self.bytes[range]),
        }
    }

    /// Reads `out.len()` bytes.
    pub fn read(&mut self, offset: usize, out: &mut [u8], who: &Who) -> Result<(), Wrong> {
        self.check_states(offset, out.len())?;
        self.touch(offset, out.len(), Use::Read, who)?;
        out.copy_from_slice(&self.bytes[offset..][..out.len()]);
        Ok(())
    }

    /// Writes.
    pub fn write(&mut self, offset: usize, bytes: &[u8], who: &Who) -> Result<(), Wrong> {
        self.refuse_pending(offset, bytes.len())?;
        self.touch(offset, bytes.len(), Use::Write, who)?;
        self.set(offset, bytes);
        Ok(())
    }

    /// Reads and writes as one.
    pub fn update(&mut self, offset: usize, bytes: usize, who: &Who, f: impl Fn(u64) -> u64) -> Result<u64, Wrong> {
        self.check_states(offset, bytes)?;
        self.touch(offset, bytes, Use::Atomic, who)?;
        let mut old = [0; 8];
        old[..bytes].copy_from_slice(&self.bytes[offset..][..bytes]);
        let old = u64::from_le_bytes(old);
        self.set(offset, &f(old).to_le_bytes()[..bytes]);
        Ok(old)
    }

    /// Begins an asynchronous write: until `complete` nobody may touch these bytes.
    pub fn begin(&mut self, offset: usize, bytes: usize, who: &Who) -> Result<(), Wrong> {
        self.refuse_pending(offset, bytes)?;
        self.touch(offset, bytes, Use::Write, who)?;
        self.states[offset..][..bytes].fill(State::Pending);
        self.bytes[offset..][..bytes].fill(0xff);
        Ok(())
    }

    /// Ends an asynchronous write; it is a write of the waiting thread, now.
    pub fn complete(&mut self, offset: usize, bytes: &[u8], who: &Who) -> Result<(), Wrong> {
        self.touch(offset, bytes.len(), Use::Write, who)?;
        self.set(offset, bytes);
        Ok(())
    }

    fn refuse_pending(&self, offset: usize, bytes: usize) -> Result<(), Wrong> {
        let found = self.states[offset..][..bytes].iter().position(|&state| state == State::Pending);
        found.map_or(Ok(()), |at| Err(Wrong::Pending(offset + at)))
    }

    fn check_states(&self, offset: usize, bytes: usize) -> Result<(), Wrong> {
        let states = &self.states[offset..][..bytes];
        match states.iter().position(|&state| state != State::Written) {
            None => Ok(()),
            Some(at) if states[at] == State::Pending => Err(Wrong::Pending(offset + at)),
            Some(at) => Err(Wrong::Unwritten(offset + at)),
        }
    }

    fn touch(&mut self, offset: usize, bytes: usize, how: Use, who: &Who) -> Result<(), Wrong> {
        // An access is aligned and at most 16 bytes wide, so it lies in one page.
        let page = self.pages[offset / PAGE].get_or_insert_with(|| Box::new([Touch::default(); PAGE]));
        for (index, touch) in page[offset % PAGE..][..bytes].iter_mut().enumerate() {
            touch.note(how, who).map_err(|other| Wrong::Race(offset + index, other))?;
        }
        Ok(())
    }
}

impl Touch {
    fn note(&mut self, how: Use, who: &Who) -> Result<(), u32> {
        let both_atomic = how == Use::Atomic && self.atomic;
        if !both_atomic && who.races(self.write_by, self.write_at) {
            return Err(self.write_by);
        }
        if how == Use::Read {
            self.note_read(who);
            return Ok(());
        }
        if self.blocks_at == who.launch_at || who.races(self.read_by, self.read_at) {
            return Err(self.read_by);
        }
        (self.write_by, self.write_at, self.atomic) = (who.thread, who.now, how == Use::Atomic);
        Ok(())
    }

    fn note_read(&mut self, who: &Who) {
        if self.read_at >= who.launch_at && self.read_at < who.block_at {
            self.blocks_at = who.launch_at;
        }
        let together = self.read_at >= who.barrier_at && self.read_by != who.thread;
        self.read_by = match together {
            false => who.thread,
            true if !who.same_warp(self.read_by) => MANY,
            true if self.read_at < who.sync_at => who.thread,
            true => MANY_LANES | who.first_lane,
        };
        self.read_at = who.now;
    }
}

impl Who {
    fn same_warp(&self, by: u32) -> bool {
        by != MANY && (self.first_lane..self.first_lane + 32).contains(&(by & !MANY_LANES))
    }

    /// Whether nothing orders an access before this one.
    fn races(&self, by: u32, at: u32) -> bool {
        at >= self.launch_at
            && by != self.thread
            && (at < self.block_at || at >= self.barrier_at && !(self.same_warp(by) && at < self.sync_at))
    }
}

/// A thread of those that `Wrong::Race` names; several readers are named by one of them where it is known.
pub(crate) fn one_thread(by: u32) -> u32 {
    if by == MANY { 0 } else { by & !MANY_LANES }
}
