//! Numbers as bytes of a weight.

/// Writes numbers as little-endian bytes.
pub(crate) fn write_floats(target: &mut [u8], numbers: &[f32]) {
    for (bytes, number) in target.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
}
