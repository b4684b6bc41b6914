//! A warp: 32 lanes' registers, which of them run, and what they still wait for.

use crate::control_flow::END;
use crate::program::{Program, Row, Special, Vector};
use crate::store::Who;
use std::collections::VecDeque;

/// One register of all lanes.
pub(crate) type Lanes = [u64; 32];

/// Lanes that run together until they come to where others wait for them.
#[derive(Debug, Clone, Copy)]
struct Frame {
    at: u32,
    join: u32,
    mask: u32,
}

/// One asynchronous copy that was issued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub offset: usize,
    pub bytes: usize,
    pub data: [u8; 16],
}

/// The asynchronous copies of one thread.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    pub open: Vec<Copy>,
    pub groups: VecDeque<Vec<Copy>>,
}

#[derive(Debug)]
pub(crate) struct Warp {
    rows: Vec<Lanes>,
    frames: Vec<Frame>,
    /// Lanes that the block has threads for.
    pub lanes: u32,
    pub first_thread: u32,
    pub local: Vec<u8>,
    pub local_written: Vec<bool>,
    pub copies: Vec<Copies>,
    /// The barrier at which the warp waits.
    pub waits_at: Option<u32>,
    pub sync_at: u32,
}

/// Sizes and indices of a launch, along x, y and z.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub block_index: [u32; 3],
}

impl Warp {
    pub fn new(program: &Program, place: &Place, index: u32) -> Warp {
        let threads: u32 = place.block.iter().product();
        let first_thread = index * 32;
        let lanes = u32::MAX >> (32 - (threads - first_thread).min(32));
        // What was never written is a NaN of every float type, and an absurd integer.
        let mut rows = vec![[0xffff_dead_ffff_ffff; 32]; program.rows];
        program.constants.iter().for_each(|&(row, bits)| rows[row as usize] = [bits; 32]);
        for &(row, special) in &program.specials {
            rows[row as usize] = std::array::from_fn(|lane| special_value(special, place, index, lane as u32).into());
        }
        let local = program.local_bytes as usize * 32;
        Warp {
            rows,
            frames: vec![Frame { at: 0, join: END, mask: lanes }],
            lanes,
            first_thread,
            local: vec![0xff; local],
            local_written: vec![false; local],
            copies: (0..32).map(|_| Copies::default()).collect(),
            waits_at: None,
            sync_at: 0,
        }
    }

    /// The next instruction and the lanes that run it; `None` when all have ended.
    pub fn next(&mut self) -> Option<(u32, u32)> {
        while let Some(frame) = self.frames.last() {
            if frame.mask != 0 && frame.at != frame.join {
                return Some((frame.at, frame.mask));
            }
            self.frames.pop();
        }
        None
    }

    pub fn ended(&self) -> bool {
        self.frames.iter().all(|frame| frame.mask == 0)
    }

    pub fn advance(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.at += 1;
        }
    }

    /// `taken` of the running lanes go to `target`; they meet the others at `join`.
    pub fn branch(&mut self, target: u32, join: u32, taken: u32, taken_first: bool) {
        let frame = self.frames.last_mut().expect("a warp that runs has a frame");
        if taken == frame.mask {
            frame.at = target;
        } else if taken == 0 {
            frame.at += 1;
        } else {
            let on = Frame { at: frame.at + 1, join, mask: frame.mask & !taken };
            let off = Frame { at: target, join, mask: taken };
            frame.at = join;
            self.frames.extend(if taken_first { [on, off] } else { [off, on] });
        }
    }

    /// These lanes have ended; the others of the frame go on.
    pub fn exit(&mut self, mask: u32) {
        self.advance();
        self.frames.iter_mut().for_each(|frame| frame.mask &= !mask);
    }

    pub fn row(&self, row: Row) -> &Lanes {
        &self.rows[row as usize]
    }

    pub fn row_mut(&mut self, row: Row) -> &mut Lanes {
        &mut self.rows[row as usize]
    }

    /// Lanes of `mask` whose predicate holds.
    pub fn guarded(&self, row: Row, negated: bool, mask: u32) -> u32 {
        let holds =
            self.row(row).iter().enumerate().fold(0, |bits, (lane, &value)| bits | ((value & 1) as u32) << lane);
        mask & if negated { !holds } else { holds }
    }

    /// Sets a register in the lanes of `mask`.
    pub fn set(&mut self, row: Row, mask: u32, f: impl Fn(usize) -> u64) {
        let row = self.row_mut(row);
        if mask == u32::MAX {
            (0..32).for_each(|lane| row[lane] = f(lane));
        } else {
            lanes(mask).for_each(|lane| row[lane] = f(lane));
        }
    }

    /// The elements of one lane, one after another as in memory.
    pub fn gather(&self, vector: &Vector, lane: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        let width = usize::from(vector.bytes);
        for (index, &row) in vector.rows().iter().enumerate() {
            bytes[index * width..][..width].copy_from_slice(&self.row(row)[lane].to_le_bytes()[..width]);
        }
        bytes
    }
}

/// The lanes of a mask.
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

fn special_value(special: Special, place: &Place, warp: u32, lane: u32) -> u32 {
    let thread = warp * 32 + lane;
    let [x, y, _] = place.block;
    match special {
        Special::Tid(0) => thread % x,
        Special::Tid(1) => thread / x % y,
        Special::Tid(_) => thread / (x * y),
        Special::Ntid(axis) => place.block[axis],
        Special::Ctaid(axis) => place.block_index[axis],
        Special::Nctaid(axis) => place.grid[axis],
        Special::Lane => lane,
        Special::Warp => warp,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskLe => u32::MAX >> (31 - lane),
        Special::LaneMaskGe => u32::MAX << lane,
        Special::LaneMaskGt => !(u32::MAX >> (31 - lane)),
    }
}

/// Times and threads for an access of a lane.
pub(crate) fn lane_of(who: &Who, lane: usize) -> Who {
    Who { thread: who.first_lane + lane as u32, ..*who }
}
