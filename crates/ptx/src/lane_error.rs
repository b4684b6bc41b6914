//! A fault with the lane of the warp that it happened in.

use crate::error::Fault;

/// A fault and the lane that it is of.
pub(crate) type LaneResult<T> = Result<T, (usize, Fault)>;
