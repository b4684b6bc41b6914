//! The reader of this name in `crates/hostile`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (remat_hostile::target("gguf").examine)(input));
