//! The dynamic 8-bit maps of Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, 2022, as bitsandbytes makes
//! them: seven decades, each with twice as many numbers as the one below, and 0 and 1; signed with both signs.
//!
//! Invariant: [`DynamicMap::code`] is the nearest number, the lower one of two equally near. Look next at `nf4::scales`,
//! which follows another rule for its codes, and at the op `adamw8bit`, whose moments are such codes.

use std::sync::OnceLock;

/// Buckets of one sign: a float's exponent from 2^-23 on and seven bits of its fraction. No bucket holds two boundaries.
const BUCKETS: usize = (23 << 7) + 1;
/// The upper half of 2^-23: any magnitude below is nearer to 0 than to the smallest number.
const FIRST_BUCKET: u32 = (127 - 23) << 7;

/// 256 numbers of [-1, 1] in ascending order, and a table to find the nearest one.
pub struct DynamicMap {
    numbers: [f32; 256],
    /// `boundaries[i]` lies between numbers `i` and `i + 1`; behind the last number, infinity.
    boundaries: [f32; 256],
    /// By sign and bucket: the number of boundaries that lie below the whole bucket.
    first: [Vec<u8>; 2],
    /// The 255 boundaries as a search tree: the children of node i, from 1 on, are nodes 2i and 2i + 1.
    tree: [f32; 256],
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
            Some(next) => (numbers[index] + next) * 0.5,
            None => f32::INFINITY,
        };
        let boundaries: [f32; 256] = std::array::from_fn(boundary);
        let below = |x: f32| boundaries.partition_point(|&boundary| boundary < x) as u8;
        // The lowest float of a bucket: of the negative ones, the one of largest magnitude.
        let positive = (0..BUCKETS as u32).map(|bucket| match bucket {
            0 => below(0.0),
            _ => below(f32::from_bits((FIRST_BUCKET + bucket) << 16)),
        });
        let negative = (0..BUCKETS as u32).map(|bucket| below(-f32::from_bits((FIRST_BUCKET + bucket) << 16 | 0xffff)));
        let mut tree = [f32::INFINITY; 256];
        for (node, boundary) in tree.iter_mut().enumerate().skip(1) {
            // The nodes of a level cut the boundaries into equal parts.
            let level = node.ilog2();
            *boundary = boundaries[(2 * (node - (1 << level)) + 1) * (128 >> level) - 1];
        }
        DynamicMap { numbers, boundaries, first: [positive.collect(), negative.collect()], tree }
    }

    /// What the codes stand for.
    pub fn numbers(&self) -> &[f32; 256] {
        &self.numbers
    }

    /// The boundaries between neighbours as a search tree of eight levels. Node 1 is the root; from node i a number goes on
    /// to node 2i + 1 if the node's boundary lies below it, else to 2i; behind the last level that is 256 and its code.
    pub fn search_tree(&self) -> &[f32; 256] {
        &self.tree
    }

    /// Index of the number nearest to `x` in [-1, 1].
    #[inline(always)]
    pub fn code(&self, x: f32) -> u8 {
        let bits = x.to_bits();
        let bucket = ((bits & 0x7fff_ffff) >> 16).saturating_sub(FIRST_BUCKET) as usize;
        let code = self.first[(bits >> 31) as usize][bucket.min(BUCKETS - 1)];
        // The last boundary is infinite, so this stops at 255.
        code + u8::from(self.boundaries[usize::from(code)] < x)
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

    /// The nearest number by looking at all of them, the lower one first.
    fn nearest(map: &DynamicMap, x: f32) -> u8 {
        let boundary = |code: usize| (map.numbers[code] + map.numbers[code + 1]) * 0.5;
        (0..255).take_while(|&code| boundary(code) < x).count() as u8
    }

    #[test]
    fn the_table_finds_the_nearest_number_at_every_edge_and_everywhere_between() {
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
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
                let node = (0..8).fold(1, |node: usize, _| 2 * node + usize::from(map.tree[node] < x));
                assert_eq!(node - 256, usize::from(map.code(x)), "{x}");
            }
            for code in 0..=255u8 {
                assert_eq!(map.code(map.numbers[usize::from(code)]), code);
            }
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
