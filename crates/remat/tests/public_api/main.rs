//! Whatever is called in whatever order, with whatever names, types and shapes: an error or a step that means what was
//! written. Never a panic, a parameter of zeros that nothing reaches, or an input that another name shadows.

mod graphs;
mod made;
mod ops;
mod steps;
