//! The driver's library: the few functions of it that are used, found when the program runs.
//!
//! Invariant: nothing of CUDA is linked, so the same binary starts on a machine without it. The table may come from elsewhere, too:
//! tests fill it with functions of their own.

#![allow(missing_docs)]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// A pointer of the driver's own.
pub type Handle = *mut c_void;

macro_rules! library {
    ($($function:ident = $symbol:literal($($argument:ty),*);)*) => {
        /// Addresses of the driver's functions; each gives 0 or the number of an error.
        #[derive(Debug, Clone, Copy)]
        pub struct Library { $(pub $function: unsafe extern "C" fn($($argument),*) -> c_int,)* }

        impl Library {
            /// Opens the library by its usual names.
            ///
            /// # Errors
            /// What the system said: there is none, or one that lacks a function.
            pub fn open() -> Result<Library, String> {
                let names = if cfg!(windows) { ["nvcuda.dll"; 2] } else { ["libcuda.so.1", "libcuda.so"] };
                // SAFETY: loading NVIDIA's driver runs its initialisers, which any process may do.
                let opened = unsafe { libloading::Library::new(names[0]).or_else(|_| libloading::Library::new(names[1])) };
                // It stays for the life of the process, as the addresses do.
                let library: &'static libloading::Library = Box::leak(Box::new(opened.map_err(|error| error.to_string())?));
                Ok(Library { $($function: {
                    // SAFETY: the type is that of the driver's documentation for this symbol.
                    let symbol = unsafe { library.get::<unsafe extern "C" fn($($argument),*) -> c_int>($symbol.as_bytes()) };
                    *symbol.map_err(|error| error.to_string())?
                },)* })
            }
        }
    };
}

library! {
    init = "cuInit"(c_uint);
    version = "cuDriverGetVersion"(*mut c_int);
    device_count = "cuDeviceGetCount"(*mut c_int);
    device = "cuDeviceGet"(*mut c_int, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
    device_memory = "cuDeviceTotalMem_v2"(*mut usize, c_int);
    device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    retain_context = "cuDevicePrimaryCtxRetain"(*mut Handle, c_int);
    release_context = "cuDevicePrimaryCtxRelease_v2"(c_int);
    set_context = "cuCtxSetCurrent"(Handle);
    synchronize = "cuCtxSynchronize"();
    error_text = "cuGetErrorString"(c_int, *mut *const c_char);
    memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    allocate = "cuMemAlloc_v2"(*mut u64, usize);
    free = "cuMemFree_v2"(u64);
    fill = "cuMemsetD8_v2"(u64, u8, usize);
    fill_on = "cuMemsetD8Async"(u64, u8, usize, Handle);
    copy_in = "cuMemcpyHtoD_v2"(u64, *const c_void, usize);
    copy_out = "cuMemcpyDtoH_v2"(*mut c_void, u64, usize);
    copy_in_on = "cuMemcpyHtoDAsync_v2"(u64, *const c_void, usize, Handle);
    copy_out_on = "cuMemcpyDtoHAsync_v2"(*mut c_void, u64, usize, Handle);
    pin = "cuMemHostAlloc"(*mut Handle, usize, c_uint);
    unpin = "cuMemFreeHost"(Handle);
    load_module = "cuModuleLoadData"(*mut Handle, *const c_void);
    unload_module = "cuModuleUnload"(Handle);
    function = "cuModuleGetFunction"(*mut Handle, Handle, *const c_char);
    set_function = "cuFuncSetAttribute"(Handle, c_int, c_int);
    launch = "cuLaunchKernel"(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
    make_stream = "cuStreamCreate"(*mut Handle, c_uint);
    drop_stream = "cuStreamDestroy_v2"(Handle);
    make_event = "cuEventCreate"(*mut Handle, c_uint);
    drop_event = "cuEventDestroy_v2"(Handle);
    record = "cuEventRecord"(Handle, Handle);
    wait = "cuStreamWaitEvent"(Handle, Handle, c_uint);
    begin_capture = "cuStreamBeginCapture_v2"(Handle, c_int);
    end_capture = "cuStreamEndCapture"(Handle, *mut Handle);
    make_graph = "cuGraphInstantiate_v2"(*mut Handle, Handle, *mut Handle, *mut c_char, usize);
    drop_recipe = "cuGraphDestroy"(Handle);
    launch_graph = "cuGraphLaunch"(Handle, Handle);
    drop_graph = "cuGraphExecDestroy"(Handle);
}
