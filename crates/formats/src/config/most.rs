//! Bounds of sizes, generous for any model that exists; above them a file is corrupt.
//!
//! With them the parameters of a model are below 2^60: vocabulary x width 2^46, and per layer 4 x 2^40 in attention and
//! 3 x 2^42 in the MLP, times 2^12 layers. All experts of a layer together are no wider than one MLP may be.

pub(super) const VOCAB: usize = 1 << 26;
pub(super) const WIDTH: usize = 1 << 20;
pub(super) const INNER: usize = 1 << 22;
pub(super) const LAYERS: usize = 1 << 12;
pub(super) const HEADS: usize = 1 << 14;
pub(super) const POSITIONS: usize = 1 << 30;
pub(super) const EXPERTS: usize = 1 << 12;
