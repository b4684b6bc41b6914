//! Where adapters read weights of the base from: copies of them are compared, and rows of tokens start as the base's.

use crate::ModelError;
use remat_formats::FormatsError;

/// The weights of a base, read in pieces.
pub(crate) trait BaseWeights {
    /// Streams a weight of so many elements as f32, as the base's files have it.
    ///
    /// # Errors
    /// A tensor that is missing; a read that fails.
    fn read_weight(
        &self,
        name: &str,
        elements: usize,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError>;
}
