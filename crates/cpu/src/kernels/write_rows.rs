//! A value with some rows replaced: nothing but those rows moves where it works in place. Bound by memory.

use super::pointwise::CHUNK;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, launch};
use std::ops::Range;

struct WriteRows<'a, T> {
    x: View<'a, T>,
    rows: View<'a, T>,
    /// The elements that are replaced, and those that are written at all.
    replaced: Range<usize>,
    written: Range<usize>,
    y: Out<'a, T>,
}

impl<T: Send + Sync> Kernel for WriteRows<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let from = self.written.start + task * CHUNK;
        let end = (from + CHUNK).min(self.written.end);
        let Range { start, end: stop } = self.replaced;
        let pieces = [
            (self.x, 0, from, end.min(start)),
            (self.rows, start, from.max(start), end.min(stop)),
            (self.x, 0, from.max(stop), end),
        ];
        for (source, first, from, end) in pieces.into_iter().filter(|(_, _, from, end)| from < end) {
            unsafe { std::ptr::copy_nonoverlapping(source.at(from - first), self.y.at(from), end - from) };
        }
    }
}

/// `y = x` with `rows` from element `first` on. `y` may be `x`, in place.
pub fn write_rows<'a, T: Send + Sync>(
    pool: &ThreadPool,
    x: impl Into<View<'a, T>>,
    first: usize,
    rows: &'a [T],
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "write_rows: x and y differ in size");
    let replaced = first..first + rows.len();
    assert!(replaced.end <= x.len(), "write_rows: elements {first} to {} of {}", replaced.end, x.len());
    let written = if std::ptr::eq(x.at(0), y.at(0)) { replaced.clone() } else { 0..x.len() };
    launch(pool, written.len().div_ceil(CHUNK), &WriteRows { x, rows: rows.into(), replaced, written, y });
}

#[cfg(test)]
mod tests {
    use super::super::slice_rows::slice_rows;
    use super::*;
    use crate::testing::normals;

    #[test]
    fn rows_that_were_taken_make_the_whole_again_in_place_and_elsewhere() {
        let (tokens, width) = (700, 70);
        let x = normals(tokens * width, 1);
        for threads in 1..=3 {
            let pool = ThreadPool::new(threads);
            let (mut in_place, mut elsewhere) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            for (first, end) in [(0, 300 * width), (300 * width, x.len())] {
                let mut rows = vec![f32::NAN; end - first];
                slice_rows(&pool, &x[first..end], &mut rows);
                let start = in_place.as_mut_ptr();
                // SAFETY: the one buffer is alive, and the kernel may work in place.
                let (from, to) = unsafe { (View::from_raw(start, x.len()), Out::from_raw(start, x.len())) };
                write_rows(&pool, from, first, &rows, to);
                let before = elsewhere.clone();
                write_rows(&pool, &before, first, &rows, &mut elsewhere);
            }
            assert_eq!(in_place, x);
            assert_eq!(elsewhere, x);
        }
    }
}
