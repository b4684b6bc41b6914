//! PTX's fundamental types, their names and widths.

/// A type as an opcode's last parts name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Pred,
    /// Untyped bits of a width in bytes.
    B(u8),
    /// Unsigned integer of a width in bytes.
    U(u8),
    /// Signed integer of a width in bytes.
    S(u8),
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

impl Type {
    /// The type of this name, without its dot.
    pub fn named(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => {
                let bytes = match name.get(1..)? {
                    "8" => 1,
                    "16" => 2,
                    "32" => 4,
                    "64" => 8,
                    _ => return None,
                };
                match &name[..1] {
                    "b" => Type::B(bytes),
                    "u" => Type::U(bytes),
                    "s" => Type::S(bytes),
                    _ => return None,
                }
            }
        })
    }

    /// Width in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Type::Pred => 1,
            Type::B(n) | Type::U(n) | Type::S(n) => n.into(),
            Type::F16 | Type::Bf16 => 2,
            Type::F16x2 | Type::Bf16x2 | Type::F32 => 4,
            Type::F64 => 8,
        }
    }

    /// Ones where a value of this type has bits.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}
