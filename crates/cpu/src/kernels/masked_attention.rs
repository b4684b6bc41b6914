//! Masks of attention: what they do to the scores of a query. The kernel is that of `attention.rs`, with `Sight::Masked`: a mask is
//! added to a row of a tile's scores before its softmax; a row of which nothing is seen gives o = 0 and lse = -infinity.

/// A mask over pairs of queries and keys.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// Its elements, keys one behind the other.
    pub elements: MaskElements<'a>,
    /// How far neighbours in the batch, among heads and among queries lie apart.
    pub strides: [usize; 3],
}

/// What a mask does to scores.
#[derive(Debug, Clone, Copy)]
pub enum MaskElements<'a> {
    /// Where it is 0, the key is hidden.
    Boolean(&'a [i32]),
    /// It is added.
    Additive(&'a [f32]),
}

impl Mask<'_> {
    /// Index of the first key's element for a query.
    #[inline(always)]
    pub(super) fn row(&self, (b, h, i): (usize, usize, usize)) -> usize {
        b * self.strides[0] + h * self.strides[1] + i * self.strides[2]
    }

    /// Adds what the keys from `j` on have for a query onto `scores`: -infinity where they are hidden.
    #[inline(always)]
    pub(super) fn add_to(&self, query: (usize, usize, usize), j: usize, scores: &mut [f32]) {
        let from = self.row(query) + j;
        match self.elements {
            MaskElements::Boolean(mask) => {
                for (score, &seen) in scores.iter_mut().zip(&mask[from..]) {
                    *score = if seen == 0 { f32::NEG_INFINITY } else { *score };
                }
            }
            MaskElements::Additive(mask) => {
                scores.iter_mut().zip(&mask[from..]).for_each(|(score, more)| *score += more);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self.elements {
            MaskElements::Boolean(mask) => mask.len(),
            MaskElements::Additive(mask) => mask.len(),
        }
    }
}
