//! One trained turn within a rendering. Invariant: bytes of the text, not tokens; which token ends a turn is for `encode` to
//! see.

/// A trained turn within the rendered text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Where the assistant begins to speak.
    pub(crate) start: usize,
    pub(crate) end: TurnEnd,
}

/// Where a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    /// With the first special token that starts in `content_end..limit`, and those right behind it before `through`;
    /// without one, at `otherwise`.
    FirstSpecial { content_end: usize, limit: usize, through: usize, otherwise: usize },
    /// With the last special token that starts in `from..limit`: behind tool calls there may be several. Without one, at
    /// `otherwise`.
    LastSpecial { from: usize, limit: usize, otherwise: usize },
    /// Here, whatever the tokens are.
    Here(usize),
}

impl Turn {
    /// The turn ends here or before.
    pub(super) fn limit(&self) -> usize {
        match self.end {
            TurnEnd::FirstSpecial { content_end, .. } => content_end,
            TurnEnd::LastSpecial { otherwise: limit, .. } | TurnEnd::Here(limit) => limit,
        }
    }
}
