//! Gradient of maxima and means of windows. A task is some rows of one plane of dx, whose sums are in scratch: what an
//! element gets of several windows is added in f32, by rows of windows. Look at `pool2d.rs` for shapes.

use super::pointwise::CHUNK;
use super::pool2d::Pooling;
use crate::element::Element;
use crate::pool::{SCRATCH_BYTES_PER_THREAD, Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::ops::PoolKind;

/// The longest row of an image: it has to have room in scratch.
pub const MAX_WIDTH: usize = SCRATCH_BYTES_PER_THREAD / size_of::<f32>();

struct Backward<'a, T> {
    of: Pooling,
    /// Rows of dx per task.
    band: usize,
    dy: &'a [T],
    x: Option<&'a [T]>,
    dx: Out<'a, T>,
}

/// dx of `pool2d`; `x` is the forward's operand, for maxima alone.
pub fn pool2d_grad<T: Element>(pool: &ThreadPool, of: Pooling, dy: &[T], x: Option<&[T]>, dx: &mut [T]) {
    of.check("pool2d_grad", dx.len(), dy.len());
    assert!(x.is_none_or(|x| x.len() == dx.len()), "pool2d_grad: x is not like dx");
    assert_eq!(x.is_some(), of.op.kind == PoolKind::Max, "pool2d_grad: x is for maxima");
    let [height, width] = of.image;
    assert!(width <= MAX_WIDTH, "pool2d_grad: rows of {width} are longer than {MAX_WIDTH}");
    let band = (CHUNK / width).clamp(1, height);
    let kernel = Backward { of, band, dy, x, dx: Out::new(dx) };
    launch(pool, of.planes * height.div_ceil(band), &kernel);
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let ([height, width], [rows, columns]) = (self.of.image, self.of.result);
        let bands = height.div_ceil(self.band);
        let (plane, first) = (task / bands, task % bands * self.band);
        let end = height.min(first + self.band);
        let sums = &mut scratch.f32s()[..(end - first) * width];
        sums.fill(0.0);
        let x = self.x.map(|x| unsafe { x.as_ptr().add(plane * height * width) });
        for i in (0..rows).filter(|&i| {
            let touched = self.of.rows_of(i);
            touched.start < end && first < touched.end
        }) {
            for j in 0..columns {
                let dy = self.dy[(plane * rows + i) * columns + j].to_f32();
                unsafe { self.add([i, j], dy, x, first * width, sums) };
            }
        }
        for (at, sum) in sums.iter().enumerate() {
            unsafe { *self.dx.at((plane * height + first) * width + at) = T::from_f32(*sum) };
        }
    }
}

impl<T: Element> Backward<'_, T> {
    /// Adds what one window gives to those of its elements that lie in the band, which begins with element `from` of the plane.
    #[inline(always)]
    unsafe fn add(&self, at: [usize; 2], dy: f32, x: Option<*const T>, from: usize, sums: &mut [f32]) {
        let mut onto = |element: usize, part: f32| {
            if let Some(sum) = element.checked_sub(from).and_then(|at| sums.get_mut(at)) {
                *sum += part;
            }
        };
        if let Some(x) = x {
            if let Some(winner) = unsafe { self.of.winner(x, at) } {
                onto(winner, dy);
            }
            return;
        }
        let part = dy / self.of.divisor(at);
        self.of.elements(at, |element| onto(element, part));
    }
}
