//! The factor that brings gradients down to a norm.

/// `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`; NaN stays NaN, and nothing else is clipped to
/// the largest f32.
pub fn clip_scale(norm: f32, max_norm: f32) -> f32 {
    let scale = f64::from(max_norm) / (f64::from(norm) + 1e-6);
    // Not f64::min, which would turn NaN into 1.
    if scale > 1.0 || (max_norm == f32::MAX && !norm.is_nan()) { 1.0 } else { scale as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_norms_are_brought_down_and_nan_stays() {
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!(clip_scale(0.0, 1.0), 1.0);
        assert!((clip_scale(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert!(clip_scale(f32::NAN, 1.0).is_nan());
        assert_eq!(clip_scale(f32::INFINITY, 1.0), 0.0);
        assert_eq!(clip_scale(f32::INFINITY, f32::MAX), 1.0);
        assert!(clip_scale(f32::NAN, f32::MAX).is_nan());
    }
}
