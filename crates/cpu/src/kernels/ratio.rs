//! One number divided by another.

/// `n / d`.
pub fn ratio(n: f32, d: f32) -> f32 {
    n / d
}
