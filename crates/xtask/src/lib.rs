//! Chores of this repository. Look next at [`tidy`] for the rules that the code base keeps.

pub mod arenas;
pub mod circles;
pub mod new_op;
mod peer;
pub mod peers;
pub mod prices;
pub mod quickstart_model;
pub mod ranks;
pub mod tidy;
