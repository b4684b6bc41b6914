//! Where a number lies among those of its sign in a dynamic map, by arithmetic in place of a search.
//!
//! The numbers of a decade lie at equal distances, and so do the boundaries between them: a product and a sum turn a
//! magnitude into its place. Boundaries are rounded, so what comes out very near to one is not sure and has to be looked
//! up; the boundaries between decades are few, at most one in each octave, and are compared with exactly. Invariant: a
//! place that is sure is that of the nearest number, the lower one of two equally near. Why: places rise with magnitudes,
//! and every boundary itself has a place that is not sure. Look next at `dynamic_map`, whose tests
//! write the arithmetic out for one number.

/// Magnitudes below this, and 0, count as this. Its exponent and those up to 1's differ in their lowest five bits.
pub const LEAST_MAGNITUDE: f32 = f32::from_bits((127 - 31) << 23);

/// A place is computed in units of 2^-14.
pub const PLACE_BITS: u32 = 14;

/// A place of which these bits are all 0 is not sure.
pub const UNSURE: u32 = (1 << PLACE_BITS) - 4;

/// From magnitudes of [0, 1] to places: 0 is that of the number 0, then come seven decades, then the number 1.
pub struct Decades {
    /// The bits of the boundaries between decades, in order.
    pub bounds: [u32; 8],
    /// By the lowest five bits of an exponent: the bits of the boundary between decades in that octave, or of infinity.
    pub edges: [u32; 32],
    /// The same: the decade of magnitudes up to there. The next one is that of magnitudes beyond.
    pub first: [u32; 32],
    /// By decade (0 and 1 are one of their own): what a magnitude is multiplied with.
    pub scale: [f32; 16],
    /// What is added. 2 units are more than what rounding can take a boundary below its place.
    pub shift: [f32; 16],
    /// The highest place.
    pub last: [u32; 16],
}

impl Decades {
    /// Of the map's numbers from 0 on, and the boundaries behind each of them.
    pub(crate) fn of(numbers: &[f32], boundaries: &[f32]) -> Decades {
        let unit = f64::from(1u32 << PLACE_BITS);
        // 0 and seven decades, of which each has twice as many numbers as the one below; then 1.
        let least = (numbers.len() - 2) / 127;
        let counts = (0..7).map(|decade| least << decade);
        let counts: Vec<usize> = [1].into_iter().chain(counts).chain([1]).collect();
        let infinity = f32::INFINITY.to_bits();
        let mut decades = Decades {
            bounds: [infinity; 8],
            edges: [infinity; 32],
            first: [0; 32],
            scale: [0.0; 16],
            shift: [0.0; 16],
            last: [0; 16],
        };
        let mut from = 0;
        for (decade, &count) in counts.iter().enumerate() {
            let last = from + count - 1;
            decades.last[decade] = last as u32;
            if count == 1 {
                decades.shift[decade] = ((from as f64 + 0.5) * unit) as f32;
            } else {
                // The decade from 0.1 to 1 of a power of ten, in so many equal parts.
                let parts = count as f64 / 0.9;
                decades.scale[decade] = (unit * parts / 10f64.powi(decade as i32 - 7)) as f32;
                decades.shift[decade] = (unit * (from as f64 - 0.1 * parts) + 2.0) as f32;
            }
            if let Some(edge) = boundaries.get(last).filter(|edge| edge.is_finite()) {
                decades.bounds[decade] = edge.to_bits();
                decades.edges[(edge.to_bits() >> 23 & 31) as usize] = edge.to_bits();
            }
            from += count;
        }
        let mut decade = 0;
        for (first, edge) in decades.first.iter_mut().zip(&decades.edges) {
            *first = decade;
            decade += u32::from(*edge != infinity);
        }
        decades
    }
}
