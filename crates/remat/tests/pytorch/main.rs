//! The functions of the library against PyTorch's, results and gradients: the fixtures of `fixtures/library/`, one file of
//! cases per family, made by `fixtures/library.py` (which says what is in them).
//!
//! Each case also runs inside a checkpoint region, on other threads, and gives the same bits. Look next at `case.rs` for how
//! a case is run and compared; a family is one file here, with one arm per case.

mod attention;
mod case;
mod gather;
mod images;
mod layers;
mod losses;
mod matmul;
mod movement;
mod norms;
mod pointwise;
mod reduce;
