//! A layer between a program and its files, preloaded by tests (`LD_PRELOAD`): at the n-th file call it fails, acts as a
//! full disk from then on, or kills the process before the call is made.
//!
//! What is asked for comes in the environment: `REMAT_FAULT_BELOW` (a folder; only calls on files below it count),
//! `REMAT_FAULT` (`fail:N`, `full:N` or `kill:N`, counted from 1; without it nothing goes wrong) and `REMAT_FAULT_LOG` (a file
//! that gets a line per counted call), `REMAT_FAULT_ROOM` (a file: once it is there, a full disk has room again). `tests/faults` of the command line uses it; it is never a part of what is shipped.
//! Calls that do not pass by the C library are not seen. Look next at `plan`, which decides, and `calls`, which are replaced.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod calls;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod paths;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod plan;
