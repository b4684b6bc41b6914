//! Elementwise sum: `y = a + b`. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

struct Add<'a, T> {
    a: View<'a, T>,
    b: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Add<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let (a, b) = (T::load::<S>(self.a.at(i), lanes), T::load::<S>(self.b.at(i), lanes));
            T::store::<S>(self.y.at(i), S::add(a, b), lanes);
        }
    }
}

/// `y = a + b`; `y` may be `a` or `b`, in place.
pub fn add<'a, T: Element>(
    pool: &ThreadPool,
    a: impl Into<View<'a, T>>,
    b: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (a, b, y) = (a.into(), b.into(), y.into());
    assert_eq!([a.len(), b.len()], [y.len(); 2], "add: operands differ in size");
    for_each(pool, a.len(), &Add { a, b, y });
}

#[cfg(test)]
mod tests {
    use super::super::accumulate::accumulate;
    use super::super::scale::scale;
    use super::*;
    use crate::testing::{every_level, normals};

    #[test]
    fn each_element_is_one_rounding_of_the_exact_result() {
        for len in [1, 15, 70, 33_000] {
            let (a, b) = (normals(len, 1), normals(len, 2));
            every_level(
                |pool| {
                    let mut out = [(); 3].map(|()| vec![f32::NAN; len]);
                    let [sum, scaled, accumulated] = &mut out;
                    add(pool, &a, &b, sum);
                    scale(pool, &a, 0.37, scaled);
                    accumulated.copy_from_slice(&b);
                    accumulate(pool, &a, accumulated);
                    out.to_vec()
                },
                |_, got| {
                    for i in 0..len {
                        assert_eq!(got[0][i], a[i] + b[i]);
                        assert_eq!(got[1][i], a[i] * 0.37);
                        assert_eq!(got[2][i], b[i] + a[i]);
                    }
                },
            );
        }
    }
}
