//! The lab record: which program on which machine computed what from which files, and what came out. Look next at
//! `lab_record` for what it holds and at `write` for its files.

pub(crate) mod bound_by;
pub(crate) mod lab_record;
pub(crate) mod machine;
pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod time;
pub(crate) mod write;
