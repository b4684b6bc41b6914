//! Fetching against servers on the loopback device, good and hostile ones, and the cache that comes of it.
//!
//! Invariant: nothing here asks anybody outside this machine.

mod fetching;
mod hostile;
mod server;
