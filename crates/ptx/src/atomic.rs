//! What atomics and reductions over a warp do with two integers.

use crate::convert::signed as extended;
use crate::program::AtomicOp;

/// The new value from the old one, the operand, and for a swap on comparison the value to swap in.
pub(crate) fn combine(op: AtomicOp, signed: bool, bytes: u8, old: u64, b: u64, c: u64) -> u64 {
    let less = if signed { extended(old, bytes) < extended(b, bytes) } else { old < b };
    let value = match op {
        AtomicOp::Add => old.wrapping_add(b),
        AtomicOp::Min => return if less { old } else { b },
        AtomicOp::Max => return if less { b } else { old },
        AtomicOp::And => old & b,
        AtomicOp::Or => old | b,
        AtomicOp::Xor => old ^ b,
        AtomicOp::Exchange => b,
        AtomicOp::CompareSwap => return if old == b { c } else { old },
    };
    value & (u64::MAX >> (64 - 8 * u32::from(bytes)))
}
