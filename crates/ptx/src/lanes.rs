//! What an instruction without memory does in one lane: a function from the bits of its operands to the bits of its result.
//!
//! A register holds its value in the low bits of 64, the rest zero; operands are cut to their type before they come here.
//! Opcodes are matched whole, so a modifier that is not listed is not known, and is refused. Approximate functions
//! (`ex2`, `lg2`, `rcp`, `rsqrt`, `sqrt`, `sin`, `cos`, `tanh`, `div.full`) are computed in f64 and rounded once: within the error that
//! NVIDIA documents for each, though not the bits of a card.

use crate::round::{Rounding, bf16_bits, bf16_value, fma, sum, to_f32};
use std::cmp::Ordering;

type Fn4 = fn(u64, u64, u64, u64) -> u64;

/// A function of up to four operands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LaneFn {
    One(fn(u64) -> u64),
    Two(fn(u64, u64) -> u64),
    Three(fn(u64, u64, u64) -> u64),
    Four(Fn4),
}

pub(crate) fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

pub(crate) fn fb(value: f32) -> u64 {
    // A card's own NaN is 0x7fffffff.
    if value.is_nan() { 0x7fff_ffff } else { value.to_bits().into() }
}

fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

fn s32(bits: u64) -> i32 {
    bits as u32 as i32
}

fn u(bits: u64) -> u32 {
    bits as u32
}

/// The function of an opcode, or `None` where it is none of these.
pub(crate) fn lane_fn(opcode: &str) -> Option<LaneFn> {
    let found = integer_two(opcode).or_else(|| float_two(opcode)).map(LaneFn::Two);
    let found = found.or_else(|| wide(opcode).map(LaneFn::Two));
    let found = found.or_else(|| integer_one(opcode).or_else(|| float_one(opcode)).map(LaneFn::One));
    let found = found.or_else(|| integer_three(opcode).or_else(|| float_three(opcode)).map(LaneFn::Three));
    found.or_else(|| four(opcode).map(LaneFn::Four))
}

fn integer_two(opcode: &str) -> Option<fn(u64, u64) -> u64> {
    Some(match opcode {
        "add.s32" | "add.u32" => |a, b| u(a).wrapping_add(u(b)).into(),
        "add.s64" | "add.u64" => u64::wrapping_add,
        "add.s16" | "add.u16" => |a, b| (a as u16).wrapping_add(b as u16).into(),
        "sub.s32" | "sub.u32" => |a, b| u(a).wrapping_sub(u(b)).into(),
        "sub.s64" | "sub.u64" => u64::wrapping_sub,
        "sub.s16" | "sub.u16" => |a, b| (a as u16).wrapping_sub(b as u16).into(),
        "mul.lo.s32" | "mul.lo.u32" => |a, b| u(a).wrapping_mul(u(b)).into(),
        "mul.lo.s64" | "mul.lo.u64" => u64::wrapping_mul,
        "mul.lo.s16" | "mul.lo.u16" => |a, b| (a as u16).wrapping_mul(b as u16).into(),
        "and.b16" | "and.b32" | "and.b64" | "and.pred" => |a, b| a & b,
        "or.b16" | "or.b32" | "or.b64" | "or.pred" => |a, b| a | b,
        "xor.b16" | "xor.b32" | "xor.b64" | "xor.pred" => |a, b| a ^ b,
        "shl.b16" => |a, b| (a as u16).checked_shl(u(b)).unwrap_or(0).into(),
        "shl.b32" => |a, b| u(a).checked_shl(u(b)).unwrap_or(0).into(),
        "shl.b64" => |a, b| a.checked_shl(u(b)).unwrap_or(0),
        "shr.u16" | "shr.b16" => |a, b| (a as u16).checked_shr(u(b)).unwrap_or(0).into(),
        "shr.u32" | "shr.b32" => |a, b| u(a).checked_shr(u(b)).unwrap_or(0).into(),
        "shr.u64" | "shr.b64" => |a, b| a.checked_shr(u(b)).unwrap_or(0),
        "shr.s16" => |a, b| ((a as i16) >> u(b).min(15)) as u16 as u64,
        "shr.s32" => |a, b| (s32(a) >> u(b).min(31)) as u32 as u64,
        "shr.s64" => |a, b| ((a as i64) >> u(b).min(63)) as u64,
        "min.s32" => |a, b| s32(a).min(s32(b)) as u32 as u64,
        "max.s32" => |a, b| s32(a).max(s32(b)) as u32 as u64,
        "min.s64" => |a, b| (a as i64).min(b as i64) as u64,
        "max.s64" => |a, b| (a as i64).max(b as i64) as u64,
        "min.u32" | "min.u64" | "min.u16" => u64::min,
        "max.u32" | "max.u64" | "max.u16" => u64::max,
        // The executor has refused a divisor of zero.
        "div.s32" => |a, b| s32(a).wrapping_div(s32(b)) as u32 as u64,
        "rem.s32" => |a, b| s32(a).wrapping_rem(s32(b)) as u32 as u64,
        "div.s64" => |a, b| (a as i64).wrapping_div(b as i64) as u64,
        "rem.s64" => |a, b| (a as i64).wrapping_rem(b as i64) as u64,
        "div.u32" | "div.u64" | "div.u16" => |a, b| a / b,
        "rem.u32" | "rem.u64" | "rem.u16" => |a, b| a % b,
        _ => return None,
    })
}

/// Products of twice the width, and their high halves.
fn wide(opcode: &str) -> Option<fn(u64, u64) -> u64> {
    Some(match opcode {
        "mul.wide.s32" => |a, b| (i64::from(s32(a)) * i64::from(s32(b))) as u64,
        "mul.wide.u32" => |a, b| u64::from(u(a)) * u64::from(u(b)),
        "mul.wide.s16" => |a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32 as u64,
        "mul.wide.u16" => |a, b| (u32::from(a as u16) * u32::from(b as u16)).into(),
        "mul.hi.s32" => |a, b| ((i64::from(s32(a)) * i64::from(s32(b))) >> 32) as u32 as u64,
        "mul.hi.u32" => |a, b| (u64::from(u(a)) * u64::from(u(b))) >> 32,
        "mul.hi.u64" => |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64,
        "mul.hi.s64" => |a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64,
        _ => return None,
    })
}

/// Whether an opcode divides integers.
pub(crate) fn divides(opcode: &str) -> bool {
    let by_kind = opcode.starts_with("div.") || opcode.starts_with("rem.");
    by_kind && matches!(opcode.rsplit('.').next(), Some("s32" | "u32" | "s64" | "u64" | "u16"))
}

fn integer_one(opcode: &str) -> Option<fn(u64) -> u64> {
    Some(match opcode {
        "neg.s32" => |a| u(a).wrapping_neg().into(),
        "neg.s64" => u64::wrapping_neg,
        "abs.s32" => |a| s32(a).wrapping_abs() as u32 as u64,
        "abs.s64" => |a| (a as i64).wrapping_abs() as u64,
        "not.b16" => |a| (!(a as u16)).into(),
        "not.b32" => |a| (!u(a)).into(),
        "not.b64" => |a| !a,
        "not.pred" => |a| a ^ 1,
        "popc.b32" => |a| u(a).count_ones().into(),
        "popc.b64" => |a| a.count_ones().into(),
        "clz.b32" => |a| u(a).leading_zeros().into(),
        "clz.b64" => |a| a.leading_zeros().into(),
        "brev.b32" => |a| u(a).reverse_bits().into(),
        "brev.b64" => u64::reverse_bits,
        "bfind.u32" => |a| u(a).checked_ilog2().unwrap_or(u32::MAX).into(),
        _ => return None,
    })
}

fn float_two(opcode: &str) -> Option<fn(u64, u64) -> u64> {
    Some(match opcode {
        "add.f32" | "add.rn.f32" => |a, b| fb(f(a) + f(b)),
        "sub.f32" | "sub.rn.f32" => |a, b| fb(f(a) - f(b)),
        "mul.f32" | "mul.rn.f32" => |a, b| fb(f(a) * f(b)),
        "div.rn.f32" => |a, b| fb(f(a) / f(b)),
        "div.full.f32" | "div.approx.f32" => |a, b| fb((f64::from(f(a)) / f64::from(f(b))) as f32),
        "add.rz.f32" => |a, b| fb(added(a, b, Rounding::Zero)),
        "add.rm.f32" => |a, b| fb(added(a, b, Rounding::Down)),
        "add.rp.f32" => |a, b| fb(added(a, b, Rounding::Up)),
        "mul.rz.f32" => |a, b| fb(to_f32(f64::from(f(a)) * f64::from(f(b)), Ordering::Equal, Rounding::Zero)),
        "mul.rm.f32" => |a, b| fb(to_f32(f64::from(f(a)) * f64::from(f(b)), Ordering::Equal, Rounding::Down)),
        "mul.rp.f32" => |a, b| fb(to_f32(f64::from(f(a)) * f64::from(f(b)), Ordering::Equal, Rounding::Up)),
        "min.f32" => |a, b| fb(least(f(a), f(b))),
        "max.f32" => |a, b| fb(-least(-f(a), -f(b))),
        "min.NaN.f32" => |a, b| fb(if f(a).is_nan() || f(b).is_nan() { f32::NAN } else { least(f(a), f(b)) }),
        "max.NaN.f32" => |a, b| fb(if f(a).is_nan() || f(b).is_nan() { f32::NAN } else { -least(-f(a), -f(b)) }),
        "copysign.f32" => |a, b| (a & 0x8000_0000) | (b & 0x7fff_ffff),
        "add.f64" | "add.rn.f64" => |a, b| (d(a) + d(b)).to_bits(),
        "sub.f64" | "sub.rn.f64" => |a, b| (d(a) - d(b)).to_bits(),
        "mul.f64" | "mul.rn.f64" => |a, b| (d(a) * d(b)).to_bits(),
        "div.rn.f64" => |a, b| (d(a) / d(b)).to_bits(),
        "min.f64" => |a, b| d(a).min(d(b)).to_bits(),
        "max.f64" => |a, b| d(a).max(d(b)).to_bits(),
        _ => return None,
    })
}

fn added(a: u64, b: u64, mode: Rounding) -> f32 {
    let (total, residue) = sum(f(a).into(), f(b).into());
    to_f32(total, residue, mode)
}

/// The lesser, a number before NaN and -0 before +0, as PTX orders them.
fn least(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a.total_cmp(&b).is_lt() => a,
        _ => b,
    }
}

fn float_one(opcode: &str) -> Option<fn(u64) -> u64> {
    Some(match opcode {
        "neg.f32" => |a| a ^ 0x8000_0000,
        "abs.f32" => |a| a & 0x7fff_ffff,
        "neg.f64" => |a| a ^ (1 << 63),
        "abs.f64" => |a| a & !(1 << 63),
        "neg.bf16" | "neg.f16" => |a| a ^ 0x8000,
        "neg.bf16x2" | "neg.f16x2" => |a| a ^ 0x8000_8000,
        "sqrt.rn.f32" | "sqrt.approx.f32" => |a| fb(f(a).sqrt()),
        "sqrt.rn.f64" => |a| d(a).sqrt().to_bits(),
        "rcp.rn.f32" | "rcp.approx.f32" => |a| fb(1.0 / f(a)),
        "rcp.rn.f64" => |a| (1.0 / d(a)).to_bits(),
        "rcp.approx.ftz.f32" => |a| fb(flushed(1.0 / flushed(f(a)))),
        "rsqrt.approx.f32" => |a| fb((1.0 / f64::from(f(a)).sqrt()) as f32),
        "rsqrt.approx.ftz.f32" => |a| fb((1.0 / f64::from(flushed(f(a))).sqrt()) as f32),
        "ex2.approx.f32" => |a| fb(f64::from(f(a)).exp2() as f32),
        "ex2.approx.ftz.f32" => |a| fb(flushed(f64::from(flushed(f(a))).exp2() as f32)),
        "lg2.approx.f32" => |a| fb(f64::from(f(a)).log2() as f32),
        "lg2.approx.ftz.f32" => |a| fb(f64::from(flushed(f(a))).log2() as f32),
        "sin.approx.f32" => |a| fb(f64::from(f(a)).sin() as f32),
        "cos.approx.f32" => |a| fb(f64::from(f(a)).cos() as f32),
        "tanh.approx.f32" => |a| fb(f64::from(f(a)).tanh() as f32),
        _ => return None,
    })
}

fn float_three(opcode: &str) -> Option<fn(u64, u64, u64) -> u64> {
    Some(match opcode {
        "fma.rn.f32" => |a, b, c| fb(f(a).mul_add(f(b), f(c))),
        "fma.rz.f32" => |a, b, c| fb(fma(f(a), f(b), f(c), Rounding::Zero)),
        "fma.rm.f32" => |a, b, c| fb(fma(f(a), f(b), f(c), Rounding::Down)),
        "fma.rp.f32" => |a, b, c| fb(fma(f(a), f(b), f(c), Rounding::Up)),
        "fma.rn.f64" => |a, b, c| d(a).mul_add(d(b), d(c)).to_bits(),
        "fma.rn.bf16" => bf16_fma,
        "fma.rn.bf16x2" => {
            |a, b, c| bf16_fma(a & 0xffff, b & 0xffff, c & 0xffff) | bf16_fma(a >> 16, b >> 16, c >> 16) << 16
        }
        "slct.f32.s32" | "slct.b32.s32" => |a, b, c| if s32(c) >= 0 { a } else { b },
        _ => return None,
    })
}

/// The product of two bf16 is exact in f32 and f64; the sum is rounded to odd there, so that the second rounding is true.
fn bf16_fma(a: u64, b: u64, c: u64) -> u64 {
    let (total, residue) = sum(f64::from(bf16_value(a)) * f64::from(bf16_value(b)), bf16_value(c).into());
    let cut = to_f32(total, residue, Rounding::Zero);
    let inexact = cut.is_finite() && (f64::from(cut) != total || residue != Ordering::Equal);
    bf16_bits(if inexact { f32::from_bits(cut.to_bits() | 1) } else { cut }, Rounding::Nearest)
}

fn integer_three(opcode: &str) -> Option<fn(u64, u64, u64) -> u64> {
    Some(match opcode {
        "mad.lo.s32" | "mad.lo.u32" => |a, b, c| u(a).wrapping_mul(u(b)).wrapping_add(u(c)).into(),
        "mad.lo.s64" | "mad.lo.u64" => |a, b, c| a.wrapping_mul(b).wrapping_add(c),
        "mad.lo.s16" | "mad.lo.u16" => |a, b, c| (a as u16).wrapping_mul(b as u16).wrapping_add(c as u16).into(),
        "mad.wide.s32" => |a, b, c| (i64::from(s32(a)) * i64::from(s32(b))).wrapping_add(c as i64) as u64,
        "mad.wide.u32" => |a, b, c| (u64::from(u(a)) * u64::from(u(b))).wrapping_add(c),
        "mad.hi.u32" => |a, b, c| u((u64::from(u(a)) * u64::from(u(b))) >> 32).wrapping_add(u(c)).into(),
        "mad.hi.s32" => |a, b, c| (((i64::from(s32(a)) * i64::from(s32(b))) >> 32) as u32).wrapping_add(u(c)).into(),
        "prmt.b32" => permute,
        "bfe.u32" => |a, b, c| extract(a & 0xffff_ffff, b, c, 32, false),
        "bfe.s32" => |a, b, c| extract(a & 0xffff_ffff, b, c, 32, true) & 0xffff_ffff,
        "bfe.u64" => |a, b, c| extract(a, b, c, 64, false),
        "bfe.s64" => |a, b, c| extract(a, b, c, 64, true),
        "shf.l.wrap.b32" => |a, b, c| ((b << 32 | a) << (c & 31)) >> 32,
        "shf.r.wrap.b32" => |a, b, c| (b << 32 | a) >> (c & 31) & 0xffff_ffff,
        "shf.l.clamp.b32" => |a, b, c| u(((u128::from(b << 32 | a) << u(c).min(32)) >> 32) as u64).into(),
        "shf.r.clamp.b32" => |a, b, c| u((b << 32 | a) >> u(c).min(32)).into(),
        "selp.b16" | "selp.b32" | "selp.b64" | "selp.f32" | "selp.f64" | "selp.s32" | "selp.u32" | "selp.s64"
        | "selp.u64" | "selp.u16" | "selp.s16" => |a, b, p| if p != 0 { a } else { b },
        _ => return None,
    })
}

fn four(opcode: &str) -> Option<Fn4> {
    Some(match opcode {
        "bfi.b32" => |a, b, pos, len| insert(a, b, pos, len, 32),
        "bfi.b64" => |a, b, pos, len| insert(a, b, pos, len, 64),
        "lop3.b32" => |a, b, c, table| {
            let term = |n: u64| {
                let side = |x: u64, bit: u64| if n >> bit & 1 == 1 { x } else { !x };
                if table >> n & 1 == 1 { side(a, 2) & side(b, 1) & side(c, 0) } else { 0 }
            };
            (0..8).fold(0, |all, n| all | term(n)) & 0xffff_ffff
        },
        _ => return None,
    })
}

/// `prmt.b32`: each nibble of `c` picks a byte of `b:a`, its top bit spreads that byte's sign.
fn permute(a: u64, b: u64, c: u64) -> u64 {
    let bytes = b << 32 | a;
    (0..4).fold(0, |out, i| {
        let pick = c >> (4 * i) & 0xf;
        let byte = bytes >> (8 * (pick & 7)) & 0xff;
        let byte = if pick & 8 == 0 { byte } else { (byte >> 7) * 0xff };
        out | byte << (8 * i)
    })
}

fn extract(a: u64, pos: u64, len: u64, width: u64, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if len == 0 {
        return 0;
    }
    let end = (pos + len - 1).min(width - 1);
    let fill = if signed && a >> end & 1 == 1 { u64::MAX } else { 0 };
    let bit = |i: u64| if pos + i < width { a >> (pos + i) & 1 } else { fill & 1 };
    let low = (0..len.min(width)).fold(0, |out, i| out | bit(i) << i);
    if len >= 64 { low } else { low | fill << len }
}

fn insert(a: u64, b: u64, pos: u64, len: u64, width: u64) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= width || len == 0 {
        return b;
    }
    let ones = u64::MAX >> (64 - len.min(width - pos));
    b & !(ones << pos) | (a & ones) << pos
}
