//! How much of a file is held at once.

/// The longest row that is read, so that a file without line ends cannot take the machine's memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;
