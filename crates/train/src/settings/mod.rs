//! Settings: flags and files, typed and checked before anything is read. Look next at `config`.

pub(crate) mod config;
pub(crate) mod config_file;
pub(crate) mod isa;
pub(crate) mod precision;
pub(crate) mod schedule;
