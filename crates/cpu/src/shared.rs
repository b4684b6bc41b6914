//! An output slice that several tasks write, each its own elements.

use std::marker::PhantomData;

/// A mutable slice shared by the tasks of one kernel. Invariant: no two tasks touch the same element.
pub(crate) struct Out<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `at`, whose callers write disjoint elements.
unsafe impl<T: Send> Sync for Out<'_, T> {}
// SAFETY: as for `&mut [T]`.
unsafe impl<T: Send> Send for Out<'_, T> {}

impl<'a, T> Out<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Out { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Address of element `index`.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> *mut T {
        debug_assert!(index <= self.len, "output index {index} of {}", self.len);
        // `wrapping_add` keeps this safe to call; only the access is not.
        self.start.wrapping_add(index)
    }
}
