//! Zeroed, page-aligned memory that is allocated once and never grows.
//!
//! Invariant: a page is resident from its first use on, not before, so that what is loaded first does not pay for what
//! runs later: the allocator is asked for zeroed memory without an alignment of its own, which it takes from fresh pages,
//! and the start is moved to a page. (Asked for aligned memory it would write the zeros itself.)

use crate::allocator::advise_huge_pages;
use remat_plan::DeviceError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Page alignment: slots aligned to less stay aligned, and huge pages can back it.
const PAGE_BYTES: usize = 4096;

/// What the system's allocator aligns everything to.
const ALLOCATOR_ALIGNMENT: usize = 16;

/// Owned bytes at a fixed address.
pub(super) struct Region {
    /// What the allocator gave: up to a page before `start`.
    allocation: NonNull<u8>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is plain owned memory; access goes through `&self` and `&mut self`, or through the pointers of a
// resolved program, which the executor uses only while it holds `&mut self`.
unsafe impl Send for Region {}

impl Region {
    /// No memory at all.
    pub(super) fn empty() -> Self {
        Region { allocation: NonNull::dangling(), start: NonNull::dangling(), bytes: 0 }
    }

    /// `bytes` zeroed bytes.
    pub(super) fn new(bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        if bytes == 0 {
            return Ok(Region::empty());
        }
        let refused = || DeviceError::OutOfMemory { what, bytes };
        let layout = Region::layout(bytes).ok_or_else(refused)?;
        // SAFETY: the layout has a non-zero size.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        let skipped = allocation.align_offset(PAGE_BYTES);
        // SAFETY: the allocation is longer than `bytes` by a page, and less than a page is skipped.
        let start = unsafe { allocation.add(skipped) };
        advise_huge_pages(start.as_ptr(), bytes);
        Ok(Region { allocation, start, bytes })
    }

    /// Of the allocation behind a region.
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(PAGE_BYTES)?, ALLOCATOR_ALIGNMENT).ok()
    }

    /// Address of the byte at `offset`, which must not exceed the size.
    pub(super) fn at(&mut self, offset: usize) -> *mut u8 {
        assert!(offset <= self.bytes, "offset {offset} of a region of {} bytes", self.bytes);
        // SAFETY: the offset stays inside the allocation, or one past it.
        unsafe { self.start.as_ptr().add(offset) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is valid for `bytes` initialised bytes (or dangling and aligned for none).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let layout = Region::layout(self.bytes).expect("the layout it was allocated with");
            // SAFETY: allocated in `new` with this very layout.
            unsafe { dealloc(self.allocation.as_ptr(), layout) }
        }
    }
}
