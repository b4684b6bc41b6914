//! Reports: charts as pure functions from numbers to SVG, and one HTML page that holds them.
//!
//! Invariants: a page is one file that loads nothing and runs no script; text that a user supplied (names of files, models
//! and policies) is escaped where it enters; a number that is not finite draws nothing. Colours are CSS variables with a
//! light and a dark set, so a chart follows the reader's system. Look next at [`Page`].

mod axis;
mod bars;
mod colours;
mod curves;
mod frontier;
mod markup;
mod page;
mod timeline;

pub use axis::Unit;
pub use bars::{Pair, pairs};
pub use curves::{Series, curves};
pub use frontier::{Mark, frontier};
pub use page::Page;
pub use timeline::{Bar, Kind, Timeline};
