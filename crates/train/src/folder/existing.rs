//! What a run does with what a run before it left.

/// What to do with a folder that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it unless it is empty.
    Refuse,
    /// Take what a former run left there away.
    Replace,
    /// Go on with the run in it.
    Resume,
}
