//! The memory that kernels read and write, as addresses: an op that works in place reads what it writes.

use std::marker::PhantomData;

/// Elements that an op reads. Where the op's documentation says "in place", they may be those of a result.
pub struct View<'a, T> {
    start: *const T,
    len: usize,
    slice: PhantomData<&'a [T]>,
}

/// Elements that an op writes. Invariant: no two tasks of a kernel touch the same element.
pub struct Out<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<'_, T> {}

// SAFETY: as for `&[T]`; in place, each element is read and written by one task.
unsafe impl<T: Sync> Sync for View<'_, T> {}
// SAFETY: as for `&[T]`.
unsafe impl<T: Sync> Send for View<'_, T> {}
// SAFETY: access goes through `at`, whose callers write disjoint elements.
unsafe impl<T: Send> Sync for Out<'_, T> {}
// SAFETY: as for `&mut [T]`.
unsafe impl<T: Send> Send for Out<'_, T> {}

impl<'a, T> From<&'a [T]> for View<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        View { start: slice.as_ptr(), len: slice.len(), slice: PhantomData }
    }
}

impl<'a, T> From<&'a Vec<T>> for View<'a, T> {
    fn from(slice: &'a Vec<T>) -> Self {
        slice.as_slice().into()
    }
}

impl<'a, T> From<&'a mut [T]> for Out<'a, T> {
    fn from(slice: &'a mut [T]) -> Self {
        Out { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }
}

impl<'a, T> From<&'a mut Vec<T>> for Out<'a, T> {
    fn from(slice: &'a mut Vec<T>) -> Self {
        slice.as_mut_slice().into()
    }
}

impl<T> View<'_, T> {
    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They are initialised and live for the lifetime; only the op that reads them writes them, and only where it
    /// works in place.
    pub unsafe fn from_raw(start: *const T, len: usize) -> Self {
        View { start, len, slice: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of element `index`.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> *const T {
        debug_assert!(index <= self.len, "operand index {index} of {}", self.len);
        // `wrapping_add` keeps this safe to call; only the access is not.
        self.start.wrapping_add(index)
    }
}

impl<'a, T> Out<'a, T> {
    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They live for the lifetime; nobody else reads or writes them, but the op itself where it works in place.
    pub unsafe fn from_raw(start: *mut T, len: usize) -> Self {
        Out { start, len, slice: PhantomData }
    }

    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        slice.into()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of element `index`.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> *mut T {
        debug_assert!(index <= self.len, "output index {index} of {}", self.len);
        self.start.wrapping_add(index)
    }
}
