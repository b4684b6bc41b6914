//! Rounding between float widths, exactly as IEEE 754 and PTX's modifiers say.
//!
//! A result is formed in f64 as the nearest value and the sign of what it leaves out, and from both rounded once: no
//! double rounding, whatever the direction.

use std::cmp::Ordering;

/// PTX's rounding modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To nearest, ties to even: `.rn`.
    Nearest,
    /// Towards zero: `.rz`.
    Zero,
    /// Towards minus infinity: `.rm`.
    Down,
    /// Towards plus infinity: `.rp`.
    Up,
}

/// `value + a tiny residue of this sign`, rounded to f32. Under `Nearest` the residue breaks ties.
pub(crate) fn to_f32(value: f64, residue: Ordering, mode: Rounding) -> f32 {
    let near = value as f32;
    if value.is_nan() || value.is_infinite() {
        return near;
    }
    let below = if f64::from(near) > value { near.next_down() } else { near };
    let exact = f64::from(below) == value;
    // The neighbours around the true value: equal only where it is a float itself.
    let (low, high) = match (exact, residue) {
        (true, Ordering::Equal) => return near,
        (true, Ordering::Less) => (below.next_down(), below),
        _ => (below, below.next_up()),
    };
    let signed_zero = |x: f32| if x == 0.0 { 0f32.copysign(value as f32) } else { x };
    match mode {
        Rounding::Down => signed_zero(low),
        Rounding::Up => signed_zero(high),
        Rounding::Zero => signed_zero(if value < 0.0 { high } else { low }),
        Rounding::Nearest if exact => near,
        Rounding::Nearest if low.is_infinite() || high.is_infinite() => near,
        Rounding::Nearest => {
            let middle = (f64::from(low) + f64::from(high)) / 2.0;
            match (value.total_cmp(&middle), residue) {
                (Ordering::Equal, Ordering::Less) => low,
                (Ordering::Equal, Ordering::Greater) => high,
                _ => near,
            }
        }
    }
}

/// `a + b` with the sign of its rounding error (Knuth's two-sum).
pub(crate) fn sum(a: f64, b: f64) -> (f64, Ordering) {
    let total = a + b;
    let virtual_b = total - a;
    let error = (a - (total - virtual_b)) + (b - virtual_b);
    (total, error.partial_cmp(&0.0).unwrap_or(Ordering::Equal))
}

/// `a * b + c` in one rounding.
pub(crate) fn fma(a: f32, b: f32, c: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest {
        return a.mul_add(b, c);
    }
    // The product of two f32 is exact in f64.
    let (total, residue) = sum(f64::from(a) * f64::from(b), f64::from(c));
    to_f32(total, residue, mode)
}

/// The integer that a rounding of a float to integers gives.
pub(crate) fn to_integer(value: f64, mode: Rounding) -> f64 {
    match mode {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// f32 to bf16 bits; NaN becomes the canonical one, 0x7fff.
pub(crate) fn bf16_bits(value: f32, mode: Rounding) -> u64 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fff;
    }
    let rounded = match mode {
        Rounding::Nearest => bits.wrapping_add(0x7fff + (bits >> 16 & 1)),
        _ => bits,
    };
    u64::from(rounded >> 16)
}

/// bf16 bits to f32.
pub(crate) fn bf16_value(bits: u64) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// f32 to f16 bits; NaN becomes the canonical one, 0x7fff.
pub(crate) fn f16_bits(value: f32, mode: Rounding) -> u64 {
    if value.is_nan() {
        return 0x7fff;
    }
    let near = half::f16::from_f32(value);
    let over = near.to_f32().abs() > value.abs();
    u64::from(near.to_bits() - u16::from(mode == Rounding::Zero && over))
}

/// f16 bits to f32.
pub(crate) fn f16_value(bits: u64) -> f32 {
    half::f16::from_bits(bits as u16).to_f32()
}
