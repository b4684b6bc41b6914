//! Gives memory that was freed back to the system.
//!
//! Why: the general allocator keeps what compilers and tokenizers freed, so it counts as resident although nothing uses
//! it. Before the memory account is made, and before an arena is allocated, it is returned.

/// Returns freed memory to the system, where the allocator can (glibc); elsewhere does nothing.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time by any thread; it moves no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Size and alignment of a huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Asks for huge pages where whole ones lie inside a range: fewer misses in address translation, and fewer faults at
/// first touch. A wish: nothing is said where the system declines.
pub(crate) fn advise_huge_pages(start: *mut u8, bytes: usize) {
    let skipped = start.align_offset(HUGE_PAGE_BYTES);
    let whole = bytes.saturating_sub(skipped) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if whole == 0 {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the range lies inside the caller's; advice changes no byte of it.
    unsafe {
        libc::madvise(start.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE);
    }
}
