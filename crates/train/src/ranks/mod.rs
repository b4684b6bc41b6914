//! Training on several ranks: micro-batch j of an update is of rank j mod W, and every sum is made in the order of
//! micro-batches, so that the bytes are those of one process.
//!
//! Look next at `rounds` for an update's course, at `gradient_exchange` for the sums, at `agreement` for what has to be the
//! same on all ranks, and at `follow` for what ranks other than 0 do.

pub(crate) mod agreement;
pub(crate) mod error_file;
pub(crate) mod follow;
pub(crate) mod gradient_exchange;
pub(crate) mod rounds;
