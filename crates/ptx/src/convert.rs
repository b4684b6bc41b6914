//! `cvt` and `setp`: functions of a lane that an opcode's parts put together.
//!
//! A conversion reads its source as f64 or as an integer of 128 bits, which hold every value of every type exactly, and
//! rounds once into its target.

use crate::round::{Rounding, bf16_bits, bf16_value, f16_bits, f16_value, to_f32, to_integer};
use crate::types::Type;
use std::cmp::Ordering;

/// A conversion, decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    to: Type,
    from: Type,
    rounding: Rounding,
    /// Rounds to an integral value within a float type (`.rni` and its kin).
    integral: bool,
    saturate: bool,
}

impl Conversion {
    /// Reads `cvt.<parts>`; `None` where a part or the pair of types is not known.
    pub fn decode(parts: &[&str]) -> Option<Conversion> {
        let (types, modifiers) = (parts.get(parts.len().checked_sub(2)?..)?, &parts[..parts.len() - 2]);
        let (to, from) = (Type::named(types[0])?, Type::named(types[1])?);
        let mut made = Conversion { to, from, rounding: Rounding::Nearest, integral: false, saturate: false };
        let mut rounded = false;
        for &modifier in modifiers {
            let (rounding, integral) = match modifier {
                "sat" => {
                    made.saturate = true;
                    continue;
                }
                "rn" => (Rounding::Nearest, false),
                "rz" => (Rounding::Zero, false),
                "rm" => (Rounding::Down, false),
                "rp" => (Rounding::Up, false),
                "rni" => (Rounding::Nearest, true),
                "rzi" => (Rounding::Zero, true),
                "rmi" => (Rounding::Down, true),
                "rpi" => (Rounding::Up, true),
                _ => return None,
            };
            (made.rounding, made.integral, rounded) = (rounding, integral, true);
        }
        made.allowed(rounded).then_some(made)
    }

    fn allowed(&self, rounded: bool) -> bool {
        let integer = |ty| matches!(ty, Type::U(_) | Type::S(_));
        let float = |ty| matches!(ty, Type::F16 | Type::Bf16 | Type::F32 | Type::F64);
        let narrow = matches!(self.to, Type::F16 | Type::Bf16);
        let directed = matches!(self.rounding, Rounding::Down | Rounding::Up);
        match (self.to, self.from) {
            (to, from) if integer(to) && integer(from) => !rounded,
            (to, from) if integer(to) && float(from) => self.integral,
            (_, from) if narrow && integer(from) => false,
            (to, from) if float(to) && integer(from) => rounded && !self.integral && !self.saturate,
            (to, from) if to == from && float(to) => !narrow && (self.integral || !rounded),
            (Type::F16 | Type::Bf16, Type::F32) => rounded && !self.integral && !directed && !self.saturate,
            (Type::F32 | Type::F64, Type::F16 | Type::Bf16) | (Type::F64, Type::F32) => !rounded && !self.saturate,
            (Type::F32, Type::F64) => rounded && !self.integral && !self.saturate,
            _ => false,
        }
    }

    /// The converted bits in a register that has bits where `wide` has ones.
    pub fn apply(&self, bits: u64, wide: u64) -> u64 {
        let value = self.value(bits);
        match self.to {
            Type::S(n) => signed(value, n) as u64 & wide,
            _ => value,
        }
    }

    fn value(&self, bits: u64) -> u64 {
        match self.from {
            Type::U(n) => self.of_integer((bits & Type::U(n).mask()).into()),
            Type::S(n) => self.of_integer(signed(bits, n).into()),
            Type::F16 => self.of_float(f16_value(bits).into()),
            Type::Bf16 => self.of_float(bf16_value(bits).into()),
            Type::F32 => self.of_float(f32::from_bits(bits as u32).into()),
            _ => self.of_float(f64::from_bits(bits)),
        }
    }

    fn of_integer(&self, value: i128) -> u64 {
        match self.to {
            Type::U(_) | Type::S(_) => self.integer(value),
            Type::F32 => {
                // An integer of 64 bits in two halves, each exact in f64.
                let (high, low) = ((value >> 32 << 32) as f64, (value & 0xffff_ffff) as f64);
                let (total, residue) = crate::round::sum(high, low);
                to_f32(total, residue, self.rounding).to_bits().into()
            }
            _ => (value as f64).to_bits(),
        }
    }

    fn integer(&self, value: i128) -> u64 {
        let (low, high) = match self.to {
            Type::U(n) => (0, i128::from(Type::U(n).mask())),
            ty => (-(1i128 << (8 * ty.bytes() - 1)), (1i128 << (8 * ty.bytes() - 1)) - 1),
        };
        let value = if self.saturate { value.clamp(low, high) } else { value };
        value as u64 & self.to.mask()
    }

    fn of_float(&self, value: f64) -> u64 {
        let value = if self.integral { to_integer(value, self.rounding) } else { value };
        let value = if self.saturate && !matches!(self.to, Type::U(_) | Type::S(_)) {
            if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
        } else {
            value
        };
        match self.to {
            // Floats go to integers saturated, NaN to zero.
            Type::U(_) | Type::S(_) => Conversion { saturate: true, ..*self }.integer(value as i128),
            Type::F16 => f16_bits(value as f32, self.rounding),
            Type::Bf16 => bf16_bits(value as f32, self.rounding),
            Type::F32 if value.is_nan() => 0x7fff_ffff,
            Type::F32 => to_f32(value, Ordering::Equal, self.rounding).to_bits().into(),
            _ => value.to_bits(),
        }
    }
}

/// `cvt.rn.{bf16x2,f16x2}.f32 d, a, b`: `a` goes to the high half.
pub(crate) fn packed(parts: &[&str]) -> Option<fn(u64, u64) -> u64> {
    Some(match parts {
        ["rn", "bf16x2", "f32"] => |a, b| {
            bf16_bits(f32::from_bits(a as u32), Rounding::Nearest) << 16
                | bf16_bits(f32::from_bits(b as u32), Rounding::Nearest)
        },
        ["rn", "f16x2", "f32"] => |a, b| {
            f16_bits(f32::from_bits(a as u32), Rounding::Nearest) << 16
                | f16_bits(f32::from_bits(b as u32), Rounding::Nearest)
        },
        _ => return None,
    })
}

/// The low `bytes` of a register as a signed integer.
pub(crate) fn signed(bits: u64, bytes: u8) -> i64 {
    let unused = 64 - 8 * u32::from(bytes);
    (bits << unused) as i64 >> unused
}

/// How `setp` compares two operands of a type, and with which predicate it joins the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    accepts: fn(Option<Ordering>) -> bool,
    ty: Type,
    join: Option<fn(u64, u64) -> u64>,
}

impl Comparison {
    /// Reads `setp.<parts>`: comparison, perhaps a boolean operator, type.
    pub fn decode(parts: &[&str]) -> Option<Comparison> {
        let (compare, join, ty) = match parts {
            [compare, ty] => (*compare, None, *ty),
            [compare, join, ty] => {
                let join: fn(u64, u64) -> u64 = match *join {
                    "and" => |a, b| a & b,
                    "or" => |a, b| a | b,
                    "xor" => |a, b| a ^ b,
                    _ => return None,
                };
                (*compare, Some(join), *ty)
            }
            _ => return None,
        };
        let ty = Type::named(ty)?;
        let float = matches!(ty, Type::F32 | Type::F64 | Type::F16 | Type::Bf16);
        let ordered = float || matches!(ty, Type::U(_) | Type::S(_));
        use Ordering::{Equal, Greater, Less};
        let accepts: fn(Option<Ordering>) -> bool = match compare {
            "eq" => |o| o == Some(Equal),
            "ne" => |o| matches!(o, Some(Less | Greater)),
            "lt" | "lo" if ordered => |o| o == Some(Less),
            "le" | "ls" if ordered => |o| matches!(o, Some(Less | Equal)),
            "gt" | "hi" if ordered => |o| o == Some(Greater),
            "ge" | "hs" if ordered => |o| matches!(o, Some(Greater | Equal)),
            "equ" if float => |o| matches!(o, None | Some(Equal)),
            "neu" if float => |o| o != Some(Equal),
            "ltu" if float => |o| matches!(o, None | Some(Less)),
            "leu" if float => |o| o != Some(Greater),
            "gtu" if float => |o| matches!(o, None | Some(Greater)),
            "geu" if float => |o| o != Some(Less),
            "num" if float => |o| o.is_some(),
            "nan" if float => |o| o.is_none(),
            _ => return None,
        };
        Some(Comparison { accepts, ty, join })
    }

    /// Whether the instruction has a predicate to join with.
    pub fn joins(&self) -> bool {
        self.join.is_some()
    }

    /// The predicate, and the one of the opposite comparison, each joined with `with`.
    pub fn apply(&self, a: u64, b: u64, with: u64) -> (u64, u64) {
        let order = match self.ty {
            Type::S(n) => Some(signed(a, n).cmp(&signed(b, n))),
            Type::F32 => f32::from_bits(a as u32).partial_cmp(&f32::from_bits(b as u32)),
            Type::F64 => f64::from_bits(a).partial_cmp(&f64::from_bits(b)),
            Type::F16 => f16_value(a).partial_cmp(&f16_value(b)),
            Type::Bf16 => bf16_value(a).partial_cmp(&bf16_value(b)),
            ty => Some((a & ty.mask()).cmp(&(b & ty.mask()))),
        };
        let holds = u64::from((self.accepts)(order));
        match self.join {
            Some(join) => (join(holds, with), join(holds ^ 1, with)),
            None => (holds, holds ^ 1),
        }
    }
}
