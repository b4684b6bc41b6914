//! Writes new rows of keys or values into a cache, in place: `cache[b, positions[b, t]] = x[b, t]`.
//!
//! Shapes: cache [B, S, W], x [B, T, W], positions [B, T], all below S. A task is one sequence, so that of two rows for
//! one position the later stays. Bound by memory, of which there is little.

use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

struct CacheWrite<'a, T> {
    batch: usize,
    width: usize,
    x: &'a [T],
    positions: &'a [i32],
    capacity: usize,
    cache: Out<'a, T>,
}

impl<T: Element> Kernel for CacheWrite<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, b: usize, _: &mut Scratch) {
        let tokens = self.positions.len() / self.batch;
        for n in b * tokens..(b + 1) * tokens {
            let row = &self.x[n * self.width..(n + 1) * self.width];
            let to = (b * self.capacity + self.positions[n] as usize) * self.width;
            // SAFETY: the position was checked to lie in the cache; sequences' caches do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), self.cache.at(to), self.width) };
        }
    }
}

/// Copies each row of `x` to its position's row of the sequence's cache; rows are `width` elements.
pub fn cache_write<T: Element>(
    pool: &ThreadPool,
    batch: usize,
    width: usize,
    x: &[T],
    positions: &[i32],
    cache: &mut [T],
) {
    assert_eq!(x.len(), positions.len() * width, "cache_write: x is not [{}, {width}]", positions.len());
    let capacity = cache.len() / (batch * width);
    let inside = |&position: &i32| usize::try_from(position).is_ok_and(|position| position < capacity);
    assert!(positions.iter().all(inside), "cache_write: a position lies outside 0..{capacity}");
    launch(pool, batch, &CacheWrite { batch, width, x, positions, capacity, cache: Out::new(cache) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_level, normals};

    #[test]
    fn rows_go_to_their_positions_and_the_later_of_two_stays() {
        let (capacity, width) = (5, 19);
        let (before, x) = (normals(2 * capacity * width, 1), normals(6 * width, 2));
        let positions = [1, 4, 1, 0, 2, 3];
        let mut want = before.clone();
        for (n, &position) in positions.iter().enumerate() {
            let to = (n / 3 * capacity + position as usize) * width;
            want[to..to + width].copy_from_slice(&x[n * width..(n + 1) * width]);
        }
        every_level(
            |pool| {
                let mut cache = before.clone();
                cache_write(pool, 2, width, &x, &positions, &mut cache);
                vec![cache]
            },
            |level, got| assert_eq!(got[0], want, "{level}"),
        );
    }
}
