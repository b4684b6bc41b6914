//! What is trained in the quickstart: sizes that every part of it shows.

/// Rank of the adapters.
pub(super) const RANK: usize = 8;

/// Rows of a micro-batch.
pub(super) const BATCH: usize = 16;

/// Tokens of a row.
pub(super) const SEQ_LEN: usize = 80;
