//! Training on several ranks: micro-batch j of an update is of rank j mod W, and every sum is made in the order of
//! micro-batches, so that the bytes are those of one process.
//!
//! Look next at `rounds` for an update's course, at `remat_step::Shards` for who owns what, at `whole_states` for saves, at `agreement` for what has to be the
//! same on all ranks, at `same_bytes` for what has to stay so, and at `follow` for what ranks other than 0 do.

pub(crate) mod agreement;
pub(crate) mod error_file;
pub(crate) mod follow;
pub(crate) mod host_share;
pub(crate) mod rounds;
pub(crate) mod same_bytes;
pub(crate) mod whole_states;
