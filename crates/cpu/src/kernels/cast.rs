//! Change of element type: `y = x`, rounded once. Bound by memory.

use super::pointwise::for_each;
use super::scale::Scale;
use crate::element::Element;
use crate::pool::ThreadPool;

/// `y = x` in another element type, to nearest, ties to even.
pub fn cast<X: Element, Y: Element>(pool: &ThreadPool, x: &[X], y: &mut [Y]) {
    assert_eq!(x.len(), y.len(), "cast: x and y differ in size");
    // Multiplying by one is exact and keeps NaN.
    for_each(pool, x.len(), &Scale { x: x.into(), factor: 1.0, y: y.into() });
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::testing::normals;

    #[test]
    fn bf16_rounds_to_nearest_even_at_every_level_and_position() {
        let mut x = normals(70, 1);
        // Ties both ways, the largest, what rounds to infinity, subnormals, and not a number with low bits only.
        x.extend([
            1.00390625,
            1.01171875,
            f32::MAX,
            3.3961775e38,
            f32::INFINITY,
            -0.0,
            1e-40,
            f32::from_bits(0x7f80_0001),
        ]);
        for pool in crate::testing::pools(&[1]) {
            let (mut y, mut back) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
            cast(&pool, &x, &mut y);
            cast(&pool, &y, &mut back);
            for (i, &x) in x.iter().enumerate() {
                let want = bf16::from_f32(x);
                assert!(y[i].to_bits() == want.to_bits() || (x.is_nan() && y[i].is_nan()), "{x}: {} {want}", y[i]);
                assert!(back[i] == want.to_f32() || x.is_nan());
            }
        }
    }
}
