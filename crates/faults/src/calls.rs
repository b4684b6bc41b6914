//! The C library's file calls, replaced: each asks `plan` first and goes on to the real one.

// The names and arguments are the C library's.
#![allow(non_camel_case_types, missing_docs)]

use crate::paths::{named, of_descriptor};
use crate::plan::error_of;
use libc::{c_char, c_int, c_void, iovec, mode_t, off64_t, size_t, ssize_t};
use std::mem::transmute_copy;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The real function of a name, looked up once.
fn real(place: &AtomicPtr<c_void>, name: &'static std::ffi::CStr) -> *mut c_void {
    let known = place.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: `name` ends in a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has no {name:?}");
    place.store(found, Ordering::Release);
    found
}

fn refuse(error: c_int) {
    // SAFETY: the place of this thread's error.
    unsafe { *libc::__errno_location() = error };
}

/// A replaced call: its name as a C text, arguments, result; whether it takes room; the path it is about.
macro_rules! replaced {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty, room: $room:expr, path: $path:expr;)*) => {$(
        /// # Safety
        /// As of the C library's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            const NAME: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name without a zero byte"),
            };
            // SAFETY: the caller's word for its arguments.
            let path = unsafe { $path };
            if let Some(error) = error_of(stringify!($name), $room, &path) {
                refuse(error);
                return -1;
            }
            let real = real(&REAL, NAME);
            // SAFETY: the function of this name has this type, and the arguments are the caller's.
            unsafe {
                let real: unsafe extern "C" fn($($kind),*) -> $result = transmute_copy(&real);
                real($($argument),*)
            }
        }
    )*};
}

/// Whether opening with these flags may make a file.
fn makes(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

const HERE: c_int = libc::AT_FDCWD;

replaced! {
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, room: makes(flags), path: named(HERE, path);
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, room: makes(flags), path: named(HERE, path);
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, room: makes(flags), path: named(folder, path);
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, room: makes(flags), path: named(folder, path);
    read(file: c_int, into: *mut c_void, bytes: size_t) -> ssize_t, room: false, path: seen(file);
    pread64(file: c_int, into: *mut c_void, bytes: size_t, at: off64_t) -> ssize_t, room: false, path: seen(file);
    write(file: c_int, from: *const c_void, bytes: size_t) -> ssize_t, room: true, path: seen(file);
    pwrite64(file: c_int, from: *const c_void, bytes: size_t, at: off64_t) -> ssize_t, room: true, path: seen(file);
    writev(file: c_int, parts: *const iovec, count: c_int) -> ssize_t, room: true, path: seen(file);
    fsync(file: c_int) -> c_int, room: false, path: seen(file);
    fdatasync(file: c_int) -> c_int, room: false, path: seen(file);
    ftruncate64(file: c_int, bytes: off64_t) -> c_int, room: false, path: seen(file);
    fallocate64(file: c_int, mode: c_int, at: off64_t, bytes: off64_t) -> c_int, room: true, path: seen(file);
    copy_file_range(from: c_int, from_at: *mut off64_t, to: c_int, to_at: *mut off64_t, bytes: size_t, flags: u32) -> ssize_t,
        room: true, path: seen(to);
    mkdir(path: *const c_char, mode: mode_t) -> c_int, room: true, path: named(HERE, path);
    rmdir(path: *const c_char) -> c_int, room: false, path: named(HERE, path);
    unlink(path: *const c_char) -> c_int, room: false, path: named(HERE, path);
    unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int, room: false, path: named(folder, path);
    rename(from: *const c_char, to: *const c_char) -> c_int, room: false, path: named(HERE, to);
    link(from: *const c_char, to: *const c_char) -> c_int, room: true, path: named(HERE, to);
    linkat(from_folder: c_int, from: *const c_char, folder: c_int, to: *const c_char, flags: c_int) -> c_int,
        room: true, path: named(folder, to);
}

/// The path of an open file; safe, but called where paths that are named are found.
unsafe fn seen(file: c_int) -> Vec<u8> {
    of_descriptor(file)
}
