//! Prices measured on this machine, kept in a cache between runs and corrected by them. Look next at `machine_prices` for how
//! to come by them, at `calibrate` for how they are measured, and at `pace` for how a run holds its steps to them.

pub(crate) mod calibrate;
pub(crate) mod given_prices;
pub(crate) mod machine_prices;
pub(crate) mod pace;
pub(crate) mod price_cache;
pub(crate) mod price_file;
pub(crate) mod spill;
