//! Zeroed, page-aligned memory that is allocated once and never grows.
//!
//! Invariant: a page is resident from its first use on, not before, so that what is loaded first does not pay for what
//! runs later, and it goes back to the system at once when the region is dropped. So pages come from the system itself:
//! the general allocator may hand out memory that was freed before, and write the zeros into it.

use crate::allocator::advise_huge_pages;
use remat_plan::DeviceError;
use std::ptr::NonNull;

/// Where regions begin: slots aligned to less stay aligned.
#[cfg(any(test, not(unix)))]
const PAGE_BYTES: usize = 4096;

/// Owned bytes at a fixed address.
pub(super) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is plain owned memory; access goes through `&self` and `&mut self`, or through the pointers of a
// resolved program, which the executor uses only while it holds `&mut self`.
unsafe impl Send for Region {}

impl Region {
    /// No memory at all.
    pub(super) fn empty() -> Self {
        Region { start: NonNull::dangling(), bytes: 0 }
    }

    /// `bytes` zeroed bytes.
    pub(super) fn new(bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        if bytes == 0 {
            return Ok(Region::empty());
        }
        let start = zeroed_pages(bytes).ok_or(DeviceError::OutOfMemory { what, bytes })?;
        advise_huge_pages(start.as_ptr(), bytes);
        Ok(Region { start, bytes })
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
            // SAFETY: these pages came from `zeroed_pages` for as many bytes, and nobody refers to them any more.
            unsafe { free_pages(self.start, self.bytes) }
        }
    }
}

/// Fresh pages of the system for so many bytes, above none; `None` if it has no more.
#[cfg(unix)]
fn zeroed_pages(bytes: usize) -> Option<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new private mapping that no file backs; it takes the place of nothing.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    (start != libc::MAP_FAILED).then(|| NonNull::new(start.cast())).flatten()
}

/// # Safety
/// The pages came from `zeroed_pages(bytes)` and are used no more.
#[cfg(unix)]
unsafe fn free_pages(start: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        libc::munmap(start.as_ptr().cast(), bytes);
    }
}

/// Zeroed memory of the general allocator, for want of pages of the system.
#[cfg(not(unix))]
fn zeroed_pages(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: the layout has a non-zero size.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(bytes)?) })
}

/// # Safety
/// As above.
#[cfg(not(unix))]
unsafe fn free_pages(start: NonNull<u8>, bytes: usize) {
    let layout = layout(bytes).expect("the layout it was allocated with");
    // SAFETY: as the caller promises.
    unsafe { std::alloc::dealloc(start.as_ptr(), layout) }
}

#[cfg(not(unix))]
fn layout(bytes: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(bytes, PAGE_BYTES).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_and_begin_at_a_page() {
        let mut region = Region::new(3 * PAGE_BYTES + 5, "a test").expect("memory");
        assert!(region.bytes().iter().all(|&byte| byte == 0) && region.at(0).align_offset(PAGE_BYTES) == 0);
        region.bytes_mut().fill(7);
        drop(region);
        assert!(Region::new(3 * PAGE_BYTES + 5, "a test").expect("memory").bytes().iter().all(|&byte| byte == 0));
        assert!(Region::empty().bytes().is_empty());
    }

    #[test]
    fn more_than_there_can_be_is_refused() {
        let refused = Region::new(isize::MAX as usize - PAGE_BYTES, "a test").err();
        assert!(matches!(refused, Some(DeviceError::OutOfMemory { what: "a test", .. })), "{refused:?}");
    }
}
