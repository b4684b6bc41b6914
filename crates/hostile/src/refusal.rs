//! What every refusal must be.

/// Asserts that a refusal says something.
pub(crate) fn refused(error: &dyn std::fmt::Display) {
    assert!(!error.to_string().trim().is_empty(), "a refusal without words");
}
