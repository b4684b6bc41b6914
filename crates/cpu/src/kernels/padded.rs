//! Loads of a row's last elements with something else than zero in the lanes behind them: what changes no maximum, no sum.

use crate::element::Element;
use crate::simd::Simd;

/// The first `lanes` elements, `pad` in the other lanes.
///
/// # Safety
/// The machine runs level `S`; the elements exist.
#[inline(always)]
pub(crate) unsafe fn load_padded<S: Simd, T: Element>(from: *const T, lanes: usize, pad: f32) -> S::V {
    unsafe {
        if lanes == S::LANES {
            return T::load::<S>(from, lanes);
        }
        let mut buffer = [pad; 16];
        for (lane, to) in buffer.iter_mut().enumerate().take(lanes) {
            *to = (*from.add(lane)).to_f32();
        }
        S::load(buffer.as_ptr())
    }
}

/// A vector's first `lanes` lanes, zero in the others.
///
/// # Safety
/// The machine runs level `S`.
#[inline(always)]
pub(crate) unsafe fn keep<S: Simd>(v: S::V, lanes: usize) -> S::V {
    if lanes == S::LANES {
        return v;
    }
    let mut buffer = [0.0; 16];
    unsafe {
        S::store(buffer.as_mut_ptr(), v);
        S::load_partial(buffer.as_ptr(), lanes)
    }
}
