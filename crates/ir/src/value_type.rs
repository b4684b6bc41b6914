//! Element types and shapes of values.

use remat_tensor::{DType, Shape};
use std::fmt;

/// Element type and static shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl Type {
    /// A type of the given dtype and shape.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Type { dtype, shape: shape.into() }
    }

    /// Bytes of the largest value allowed: 256 TiB, so that sums over a graph's values cannot overflow.
    pub const MAX_BYTES: usize = 1 << 48;

    /// Size in bytes, of a type that passes [`Type::check`].
    pub fn bytes(&self) -> usize {
        self.dtype.bytes_of(&self.shape).expect("a type that passes `check` has a size")
    }

    /// Refuses what no value can be: a shape without axes, an axis of size 0, more than [`Type::MAX_BYTES`].
    ///
    /// # Errors
    /// The fault, to be put behind the name and type of the value.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.shape.is_empty() {
            return Err("has no axes; a scalar has shape [1]");
        }
        if self.shape.contains(&0) {
            return Err("has an axis of size 0");
        }
        match self.dtype.bytes_of(&self.shape) {
            Some(bytes) if bytes <= Type::MAX_BYTES => Ok(()),
            _ => Err("is larger than 256 TiB"),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
