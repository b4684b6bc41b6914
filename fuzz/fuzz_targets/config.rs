//! The reader of this name in `crates/hostile`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(init: remat_hostile::leave_caught_panics(), |input: &[u8]| (remat_hostile::target("config").examine)(input));
