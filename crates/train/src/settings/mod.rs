//! Settings: flags and files, typed and checked before anything is read. Look next at `config`.

pub(crate) mod adapter_options;
pub(crate) mod config;
pub(crate) mod config_file;
pub(crate) mod device_map;
pub(crate) mod device_name;
pub(crate) mod going_on;
pub(crate) mod isa;
pub(crate) mod kinds;
pub(crate) mod max_memory;
pub(crate) mod precision;
pub(crate) mod rules;
pub(crate) mod schedule;
