//! The binary from outside: `remat train` on the parity fixtures, as a user runs it.
//!
//! Invariant: these tests know files, flags and exit codes, and nothing of the crates behind them.

mod bad_numbers;
mod best;
mod bits;
mod checks;
mod command;
mod corrected_prices;
mod evaluation;
mod finishing;
mod fixed;
mod guards;
mod interrupt;
mod lengths;
mod memory;
mod methods;
mod offload;
mod phases;
mod placement;
#[path = "../prices/mod.rs"]
mod prices;
mod qlora;
mod record;
mod refusals;
mod resume;
mod samples;
mod settings;
mod signals;
mod states;
mod tensorboard;
mod trace;
mod transformers;
