//! Where values live.

/// Where a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Written by the caller before each run: token ids, labels, the learning rate.
    Input,
    /// Read-only for the whole program: frozen parameters, tables.
    Weight,
    /// Persistent and updated in place through donation: trainable parameters, gradients, moments.
    State,
    /// A slot of the plan's arena, alive between its producer and its last use.
    Arena,
}

impl Storage {
    /// The word of the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Storage::Input => "input",
            Storage::Weight => "weight",
            Storage::State => "state",
            Storage::Arena => "arena",
        }
    }
}
