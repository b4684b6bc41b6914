//! Gradient of a convolution's input: for each group and each place within a stride, a product of the kernels that can lie
//! there `[C, O t]` with the cotangents under them `[O t, B P]`. An element of x belongs to one place, and of a kernel only every
//! stride-th element can lie on it, so that nothing is multiplied by zeros between windows. Work 2 B O H' W' C R S FLOP.
//!
//! Along an axis, element h = p + i stride is element t of window i + (p + padding - t dilation) / stride, for the t that
//! leave no rest. Look at `gathered_product.rs` for the product and its numbers.

use std::ops::Range;

use super::gathered_product::{Product, Room, multiply};
use super::gemm::pack::Source;
use super::windows::ConvSize;
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;

struct Backward<'a, T> {
    size: ConvSize,
    dy: &'a [T],
    w: &'a [T],
    dx: Out<'a, T>,
}

/// dx of `conv2d`: dy `[B, O, H', W']`, w `[O, C / groups, R, S]`, dx `[B, C, H, W]`.
pub fn conv2d_dx<T: Element>(pool: &ThreadPool, size: ConvSize, dy: &[T], w: &[T], dx: &mut [T]) {
    size.check("conv2d_dx", [dx.len(), w.len(), dy.len()]);
    multiply(pool, &Backward { size, dy, w, dx: Out::new(dx) });
}

/// One group, and one place within a stride along both axes.
#[derive(Clone, Copy)]
struct Phase {
    group: usize,
    place: [usize; 2],
}

impl<T> Backward<'_, T> {
    fn phase(&self, product: usize) -> Phase {
        let [rows, cols] = self.size.window.stride;
        Phase { group: product / (rows * cols), place: [product / cols % rows, product % cols] }
    }

    /// Elements of an image that are in the phase, along an axis.
    fn elements(&self, phase: Phase, axis: usize) -> usize {
        self.size.image[axis].saturating_sub(phase.place[axis]).div_ceil(self.size.window.stride[axis])
    }

    /// By how much the window of element `tap` is ahead of the element's number, if it can lie there.
    fn ahead(&self, phase: Phase, axis: usize, tap: usize) -> Option<isize> {
        let window = &self.size.window;
        let reach = (phase.place[axis] + window.padding[axis]) as isize - (tap * window.dilation[axis]) as isize;
        let stride = window.stride[axis] as isize;
        (reach % stride == 0).then_some(reach / stride)
    }

    /// The elements of a kernel that can lie there, along an axis, each with how much its window is ahead.
    fn taps(&self, phase: Phase, axis: usize) -> impl Iterator<Item = (usize, isize)> + '_ {
        (0..self.size.kernel[axis]).filter_map(move |tap| Some((tap, self.ahead(phase, axis, tap)?)))
    }

    /// The pair of taps number `term`, given how many there are along the second axis.
    fn pair(&self, phase: Phase, term: usize, across: usize) -> [(usize, isize); 2] {
        [(0, term / across), (1, term % across)]
            .map(|(axis, number)| self.taps(phase, axis).nth(number).expect("a term of the product"))
    }
}

impl<T: Element> Product for Backward<'_, T> {
    type Operand = T;

    fn count(&self) -> usize {
        self.size.groups * self.size.window.stride.iter().product::<usize>()
    }

    fn size(&self, product: usize) -> [usize; 3] {
        let (size, phase) = (&self.size, self.phase(product));
        let taps = [0, 1].map(|axis| self.taps(phase, axis).count());
        let pixels = self.elements(phase, 0) * self.elements(phase, 1);
        [size.inputs, size.batch * pixels, size.outputs * taps[0] * taps[1]]
    }

    fn most(&self) -> [usize; 2] {
        let first = Phase { group: 0, place: [0, 0] };
        [self.size.inputs, self.size.batch * self.elements(first, 0) * self.elements(first, 1)]
    }

    #[inline(always)]
    unsafe fn left(&self, product: usize, rows: Range<usize>, depth: Range<usize>, room: Room<T>) -> Source<T> {
        let (size, phase) = (&self.size, self.phase(product));
        let across = self.taps(phase, 1).count();
        let taps = self.taps(phase, 0).count() * across;
        for (col, term) in depth.clone().enumerate() {
            let [(r, _), (s, _)] = self.pair(phase, term % taps, across);
            let output = phase.group * size.outputs + term / taps;
            for (row, channel) in rows.clone().enumerate() {
                let at = ((output * size.inputs + channel) * size.kernel[0] + r) * size.kernel[1] + s;
                unsafe { *room.add(row * depth.len() + col) = self.w[at] };
            }
        }
        Source { start: room, row_stride: depth.len(), col_stride: 1 }
    }

    #[inline(always)]
    unsafe fn right(&self, product: usize, depth: Range<usize>, cols: Range<usize>, room: Room<T>) -> Source<T> {
        let (size, phase) = (&self.size, self.phase(product));
        let across = self.taps(phase, 1).count();
        let taps = self.taps(phase, 0).count() * across;
        for (line, term) in depth.enumerate() {
            let ahead = self.pair(phase, term % taps, across).map(|(_, ahead)| ahead);
            let channel = phase.group * size.outputs + term / taps;
            let to = unsafe { std::slice::from_raw_parts_mut(room.add(line * cols.len()), cols.len()) };
            self.gather(phase, channel, ahead, cols.start, to);
        }
        Source { start: room, row_stride: cols.len(), col_stride: 1 }
    }

    #[inline(always)]
    unsafe fn store(&self, product: usize, row: usize, cols: Range<usize>, sums: &[f32]) {
        let (size, phase) = (&self.size, self.phase(product));
        let (down, across) = (self.elements(phase, 0), self.elements(phase, 1));
        let ([stride_down, stride_across], [_, width]) = (size.window.stride, size.image);
        let (channels, channel) = (size.groups * size.inputs, phase.group * size.inputs + row);
        for (col, sum) in cols.zip(sums) {
            let (image, i, j) = (col / (down * across), col / across % down, col % across);
            let (h, v) = (phase.place[0] + i * stride_down, phase.place[1] + j * stride_across);
            let at = (image * channels + channel) * size.pixels() + h * width + v;
            unsafe { *self.dx.at(at) = T::from_f32(*sum) };
        }
    }
}

impl<T: Element> Backward<'_, T> {
    /// The cotangents of one channel that windows `ahead` of the phase's elements from `first` on have; 0 where there is no such
    /// window.
    #[inline(always)]
    fn gather(&self, phase: Phase, channel: usize, ahead: [isize; 2], first: usize, to: &mut [T]) {
        let (down, across) = (self.elements(phase, 0), self.elements(phase, 1));
        let ([rows, width], channels) = (self.size.result, self.size.groups * self.size.outputs);
        let mut done = 0;
        while done < to.len() {
            let col = first + done;
            let (image, i, j) = (col / (down * across), col / across % down, col % across);
            let count = (across - j).min(to.len() - done);
            let run = &mut to[done..done + count];
            done += count;
            let row = i as isize + ahead[0];
            if row < 0 || row >= rows as isize {
                run.fill(T::from_f32(0.0));
                continue;
            }
            let line = ((image * channels + channel) * rows + row as usize) * width;
            // Windows from `start` on, of which those in 0..width exist.
            let start = j as isize + ahead[1];
            let from = (-start).clamp(0, count as isize) as usize;
            let until = (width as isize - start).clamp(from as isize, count as isize) as usize;
            run[..from].fill(T::from_f32(0.0));
            run[until..].fill(T::from_f32(0.0));
            if from < until {
                let at = line + (start + from as isize) as usize;
                run[from..until].copy_from_slice(&self.dy[at..at + until - from]);
            }
        }
    }
}
