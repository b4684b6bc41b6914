//! Policies measured side by side, before committing to one. Look next at `measure` for how, and at `row` for what comes out.

pub(crate) mod job;
pub(crate) mod measure;
pub(crate) mod profiled;
pub(crate) mod row;
pub(crate) mod setup;
pub(crate) mod side_by_side;
