//! The dynamic 8-bit maps of Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, 2022, as bitsandbytes makes
//! them: seven decades, each with twice as many numbers as the one below, and 0 and 1; signed with both signs.
//!
//! Invariant: [`DynamicMap::code`] is the nearest number, the lower one of two equally near, but for a number below 0 that is
//! nearest to 0: it keeps its sign, as bitsandbytes has it. Look next at `nf4::scales`, which follows another rule for its
//! codes, and at the op `adamw8bit`, whose moments are such codes.

use crate::decades::Decades;
use std::sync::OnceLock;

/// Buckets: the upper halves of all floats, which are sign, exponent and seven bits of the fraction. No bucket holds two
/// boundaries. Those of magnitudes that occur, some three thousand of either sign, stay in a first-level cache.
const BUCKETS: usize = 1 << 16;

/// The number below 0 that is nearest to it.
const LARGEST_NEGATIVE: f32 = -f32::from_bits(1);

/// 256 numbers of [-1, 1] in ascending order, and tables to find the nearest one.
pub struct DynamicMap {
    numbers: [f32; 256],
    /// `boundaries[i]` lies between numbers `i` and `i + 1`; behind the last number, infinity. The one below 0, if there is one,
    /// lies so near to 0 that whatever is below 0 stays there.
    boundaries: [f32; 256],
    /// By bucket: the number of boundaries that lie below all of it.
    first: Box<[u8; BUCKETS]>,
    /// The lower and the upper halves of the numbers' bits.
    halves: [[u16; 256]; 2],
    decades: Decades,
}

impl DynamicMap {
    /// The signed map, of first moments.
    pub fn signed() -> &'static DynamicMap {
        static MAP: OnceLock<DynamicMap> = OnceLock::new();
        MAP.get_or_init(|| DynamicMap::new(numbers(true)))
    }

    /// The map without negative numbers, of second moments: twice as fine.
    pub fn unsigned() -> &'static DynamicMap {
        static MAP: OnceLock<DynamicMap> = OnceLock::new();
        MAP.get_or_init(|| DynamicMap::new(numbers(false)))
    }

    fn new(numbers: [f32; 256]) -> Self {
        let boundary = |index: usize| match numbers.get(index + 1) {
            Some(next) if *next == 0.0 => LARGEST_NEGATIVE,
            Some(next) => (numbers[index] + next) * 0.5,
            None => f32::INFINITY,
        };
        let boundaries: [f32; 256] = std::array::from_fn(boundary);
        let below = |x: f32| boundaries.partition_point(|&boundary| boundary < x) as u8;
        // The lowest float of a bucket: of the negative ones, the one of largest magnitude. NaN is beyond all others.
        let lowest = |bucket: u32| f32::from_bits(bucket << 16 | if bucket >> 15 == 0 { 0 } else { 0xffff });
        let first = |bucket: u32| match lowest(bucket) {
            x if x.is_nan() => 255 * u8::from(x.is_sign_positive()),
            x => below(x),
        };
        let first: Vec<u8> = (0..BUCKETS as u32).map(first).collect();
        let first = first.into_boxed_slice().try_into().expect("one for each bucket");
        let halves = [0, 16].map(|shift| numbers.map(|number| (number.to_bits() >> shift) as u16));
        let zero = below(0.0);
        let decades = Decades::of(&numbers[usize::from(zero)..], &boundaries[usize::from(zero)..]);
        DynamicMap { numbers, boundaries, first, halves, decades }
    }

    /// What the codes stand for.
    #[inline(always)]
    pub fn numbers(&self) -> &[f32; 256] {
        &self.numbers
    }

    /// The lower and the upper 16 bits of the numbers, for look-ups in tables of 16-bit words.
    pub fn halves(&self) -> &[[u16; 256]; 2] {
        &self.halves
    }

    /// How to find a number among those of its sign by arithmetic.
    pub fn decades(&self) -> &Decades {
        &self.decades
    }

    /// Index of the number nearest to `x` in [-1, 1]; a number below 0 gets one below that of 0, if there is one.
    #[inline(always)]
    pub fn code(&self, x: f32) -> u8 {
        let code = self.first[(x.to_bits() >> 16) as usize];
        // The last boundary is infinite, so this stops at 255.
        code.wrapping_add(u8::from(self.boundaries[usize::from(code)] < x))
    }

    /// The code of `x / divisor`, of the sign of `x` even where the quotient is too small for a float.
    #[inline(always)]
    pub fn code_of_quotient(&self, x: f32, divisor: f32) -> u8 {
        self.code(DynamicMap::quotient(x, divisor))
    }

    /// `x / divisor`, below 0 if `x` is.
    #[inline(always)]
    pub fn quotient(x: f32, divisor: f32) -> f32 {
        let quotient = x / divisor;
        if x < 0.0 && quotient > LARGEST_NEGATIVE { LARGEST_NEGATIVE } else { quotient }
    }
}

/// The map's numbers, rounded as torch's `linspace` and product round them.
pub(crate) fn numbers(signed: bool) -> [f32; 256] {
    let mut numbers = vec![0.0, 1.0];
    for decade in 0..7 {
        let count = if signed { 1usize << decade } else { 2 << decade };
        // As torch.linspace(0.1, 1, count + 1): from the nearer end, each rounded once.
        let step = (1.0f32 - 0.1) / count as f32;
        let bound = |index: usize| {
            if index < count.div_ceil(2) {
                step.mul_add(index as f32, 0.1)
            } else {
                step.mul_add(-((count - index) as f32), 1.0)
            }
        };
        let power = 10f64.powi(decade - 6) as f32;
        for index in 0..count {
            let middle = (bound(index) + bound(index + 1)) / 2.0;
            numbers.push(power * middle);
            if signed {
                numbers.push(-power * middle);
            }
        }
    }
    numbers.sort_by(f32::total_cmp);
    numbers.try_into().expect("2 + 254 numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Philox;
    use crate::decades::{LEAST_MAGNITUDE, PLACE_BITS, UNSURE};

    /// The nearest number by looking at all of them, the lower one first; below 0 one that is, too, if there is one.
    fn nearest(map: &DynamicMap, x: f32) -> u8 {
        let boundary = |code: usize| (map.numbers[code] + map.numbers[code + 1]) * 0.5;
        let nearest = (0..255).take_while(|&code| boundary(code) < x).count() as u8;
        let loses_sign = x < 0.0 && map.numbers[usize::from(nearest)] >= 0.0;
        nearest.saturating_sub(u8::from(loses_sign))
    }

    /// The place of the number nearest to `x` in [-1, 1] among those of its sign; `None` where that is not sure. Below 0 a
    /// map may have one place less.
    fn place(by: &Decades, x: f32) -> Option<u32> {
        let magnitude = x.abs().max(LEAST_MAGNITUDE).to_bits();
        let octave = (magnitude >> 23 & 31) as usize;
        // Of two equally near numbers the lower one: of negative ones that is the one further from 0.
        let beyond = magnitude + (x.to_bits() >> 31) > by.edges[octave];
        let decade = (by.first[octave] + u32::from(beyond)) as usize;
        let units = f32::from_bits(magnitude).mul_add(by.scale[decade], by.shift[decade]);
        let units = units.round_ties_even() as u32;
        (units & UNSURE != 0).then_some((units >> PLACE_BITS).min(by.last[decade]))
    }

    /// Whether arithmetic is sure of a number; then it is right.
    fn agrees(map: &DynamicMap, x: f32) -> bool {
        let zero = map.code(0.0);
        // Nothing below 0 is in the map without signs: its nearest number is 0.
        let Some(place) = place(&map.decades, if zero == 0 { x.max(0.0) } else { x }) else { return false };
        let code = if x < 0.0 { zero - place.max(1).min(u32::from(zero)) as u8 } else { zero + place as u8 };
        assert_eq!(code, map.code(x), "{x}");
        true
    }

    #[test]
    fn the_table_finds_the_nearest_number_at_every_edge_and_everywhere_between() {
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            let (mut by_arithmetic, mut asked) = (0, 0);
            let philox = Philox::new(1, 2);
            let random = (0..40_000).map(|i| {
                let x = philox.normal(i).clamp(-1.0, 1.0);
                x * 10f32.powi(-((i % 9) as i32))
            });
            let edges = (0..255).flat_map(|code| {
                let middle = (map.numbers[code] + map.numbers[code + 1]) * 0.5;
                [middle.next_down(), middle, middle.next_up(), map.numbers[code]]
            });
            let buckets = (0..=u32::from(u16::MAX)).flat_map(|upper| [upper << 16, upper << 16 | 0xffff]);
            let buckets = buckets.map(f32::from_bits).filter(|x| x.abs() <= 1.0);
            for x in random.chain(edges).chain(buckets).chain([0.0, -0.0, 1.0, -1.0]) {
                assert_eq!(map.code(x), nearest(map, x), "{x}");
                by_arithmetic += usize::from(agrees(map, x));
                asked += 1;
            }
            // Powers of ten, which the random numbers are cut off at, are the ends of decades, where nothing is sure.
            assert!(by_arithmetic * 10 > asked * 9, "{by_arithmetic} of {asked}");
            for code in 0..=255u8 {
                assert_eq!(map.code(map.numbers[usize::from(code)]), code);
            }
        }
    }

    #[test]
    fn a_number_below_0_keeps_its_sign_however_small_its_quotient_is() {
        let (signed, unsigned) = (DynamicMap::signed(), DynamicMap::unsigned());
        let zero = signed.code(0.0);
        assert_eq!(signed.numbers[usize::from(zero)], 0.0);
        for (x, divisor) in [(LARGEST_NEGATIVE, 4.0), (LARGEST_NEGATIVE, 1.0), (-1e-30, f32::MAX), (-1e-9, 1.0)] {
            assert_eq!(
                [signed.code_of_quotient(x, divisor), unsigned.code_of_quotient(x, divisor)],
                [zero - 1, 0],
                "{x}"
            );
            assert_eq!(
                [signed.code_of_quotient(-x, divisor), unsigned.code_of_quotient(-x, divisor)],
                [zero, 0],
                "{x}"
            );
        }
        assert_eq!([signed.code_of_quotient(-0.0, 1.0), unsigned.code_of_quotient(-0.0, 1.0)], [zero, 0]);
    }

    /// What the arithmetic rests on.
    #[test]
    fn no_place_of_a_boundary_inside_a_decade_is_sure_and_every_decade_has_its_edge() {
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            let place = |x: f32| place(&map.decades, x);
            let numbers = &map.numbers[usize::from(map.code(0.0))..];
            let mut edges = 0;
            for (index, pair) in numbers.windows(2).enumerate() {
                let (boundary, this, next) = ((pair[0] + pair[1]) * 0.5, Some(index as u32), Some(index as u32 + 1));
                if map.decades.edges.contains(&boundary.to_bits()) {
                    edges += 1;
                    assert_eq!([boundary.next_up(), -boundary].map(place), [next, next], "{index}");
                    assert!(place(boundary).is_none() || place(boundary) == this, "{index}");
                } else {
                    assert_eq!(place(boundary), None, "{index}");
                }
                assert_eq!(place(pair[1]), next, "a number is its own nearest");
            }
            assert_eq!(edges, 8);
        }
    }

    #[test]
    fn the_unsigned_map_has_the_numbers_of_bitsandbytes() {
        let numbers = DynamicMap::unsigned().numbers();
        assert_eq!(numbers[..4], BNB_UNSIGNED_FIRST);
        assert_eq!(numbers[252..], BNB_UNSIGNED_LAST);
        let digest = |numbers: &[f32]| numbers.iter().fold(0u32, |sum, x| sum.rotate_left(5) ^ x.to_bits());
        assert_eq!([digest(numbers), digest(DynamicMap::signed().numbers())], BNB_DIGESTS);
    }

    // bitsandbytes 0.50.2, create_dynamic_map: numbers, and each map's bits folded together.
    const BNB_UNSIGNED_FIRST: [f32; 4] = [0.0, 3.2500003e-07, 7.75e-07, 2.1249998e-06];
    const BNB_UNSIGNED_LAST: [f32; 4] = [9.824219e-01, 9.894531e-01, 9.964844e-01, 1.0];
    const BNB_DIGESTS: [u32; 2] = [0x9288e9b9, 0x115436df];
}
