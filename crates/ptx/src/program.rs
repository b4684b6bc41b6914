//! A kernel in the form that is run: names are rows of a register file, every source is a row, also a constant.
//!
//! A *row* holds one register of the 32 lanes of a warp. Constants and special registers are rows that are filled before a
//! warp starts, so that an instruction never asks what kind of operand it has.

use crate::convert::{Comparison, Conversion};
use crate::lanes::LaneFn;
use crate::syntax::Variable;

/// A row of the register file.
pub(crate) type Row = u32;

/// Where generic addresses of shared memory begin.
pub(crate) const SHARED_BASE: u64 = 1 << 32;
/// Where generic addresses of a thread's local memory begin.
pub(crate) const LOCAL_BASE: u64 = 2 << 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    Warp,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskEq,
    LaneMaskGe,
    LaneMaskGt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareSwap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// Up to four registers that an instruction reads or writes together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vector {
    pub rows: [Row; 4],
    pub count: usize,
    /// Width of one element.
    pub bytes: u8,
}

impl Vector {
    pub fn rows(&self) -> &[Row] {
        &self.rows[..self.count]
    }

    pub fn all_bytes(&self) -> usize {
        self.count * usize::from(self.bytes)
    }
}

/// An address: a row and what is added to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub space: Space,
    pub base: Row,
    pub offset: i64,
}

/// Operands of one tensor-core product `d = a b + c`, m16n8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mma {
    /// Depth: 8 or 16.
    pub k: usize,
    pub bf16: bool,
    pub d: Vector,
    pub a: Vector,
    pub b: Vector,
    pub c: Vector,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Instr {
    Lane {
        f: LaneFn,
        d: Row,
        sources: [Row; 4],
    },
    Divide {
        f: LaneFn,
        d: Row,
        a: Row,
        b: Row,
    },
    /// `wide` has ones where the target register has bits: a narrower signed result is extended to it.
    Convert {
        conversion: Conversion,
        d: Row,
        a: Row,
        wide: u64,
    },
    Compare {
        comparison: Comparison,
        d: Row,
        opposite: Row,
        a: Row,
        b: Row,
        with: Row,
    },
    Pack {
        d: Row,
        parts: Vector,
    },
    Unpack {
        parts: Vector,
        a: Row,
    },
    /// `signed` extends the sign of what was read; `wide` is the mask of the register.
    Load {
        d: Vector,
        from: Address,
        signed: bool,
        wide: u64,
    },
    Store {
        to: Address,
        values: Vector,
    },
    Atomic {
        op: AtomicOp,
        signed: bool,
        bytes: u8,
        d: Row,
        at: Address,
        b: Row,
        c: Row,
    },
    Branch {
        target: u32,
        join: u32,
    },
    Exit,
    Trap,
    Barrier {
        id: u32,
    },
    WarpSync {
        members: Row,
    },
    Shuffle {
        mode: ShuffleMode,
        d: Row,
        found: Row,
        a: Row,
        b: Row,
        c: Row,
        members: Row,
    },
    Vote {
        mode: VoteMode,
        d: Row,
        negated: bool,
        a: Row,
        members: Row,
    },
    Reduce {
        op: AtomicOp,
        signed: bool,
        d: Row,
        a: Row,
        members: Row,
    },
    Mma(Mma),
    LoadMatrix {
        d: Vector,
        from: Address,
        transposed: bool,
    },
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u32,
        given: Option<Row>,
    },
    CopyCommit,
    /// Waits until at most so many groups are open; `None` waits for all, committed or not.
    CopyWait {
        open: Option<u32>,
    },
    Nothing,
}

/// An instruction with its guard and its line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub line: u32,
    /// The predicate's row and whether it is negated.
    pub guard: Option<(Row, bool)>,
    pub instr: Instr,
}

/// A kernel, decoded.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub name: String,
    pub steps: Vec<Step>,
    pub rows: usize,
    pub constants: Vec<(Row, u64)>,
    pub specials: Vec<(Row, Special)>,
    pub params: Vec<Variable>,
    /// Offsets of `params` in the parameter bytes.
    pub param_offsets: Vec<u64>,
    pub static_shared_bytes: u64,
    /// Where dynamic shared memory begins.
    pub dynamic_shared_offset: u64,
    pub local_bytes: u64,
    pub constant_bytes: Vec<u8>,
    pub most_threads: Option<(u64, bool)>,
}
