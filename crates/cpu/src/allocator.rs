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
