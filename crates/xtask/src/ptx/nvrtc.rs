//! NVRTC, NVIDIA's compiler as a library: the few functions of it that make PTX of CUDA C.

use std::error::Error;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;

type Program = *mut c_void;

/// What all kernels are compiled with: for the oldest card, and nothing that is looked up on this machine.
const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_80", "--std=c++17", "--device-as-default-execution-space"];

/// The loaded library.
pub struct Nvrtc(libloading::Library);

impl Nvrtc {
    /// Loads it.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path) -> Result<Nvrtc, Box<dyn Error>> {
        // SAFETY: NVRTC's initialisers may run in any process.
        let opened = unsafe { libloading::Library::new(path) };
        let remedy = "install the wheel nvidia-cuda-nvrtc-cu12 and name its libnvrtc.so.12 by --nvrtc or REMAT_NVRTC";
        Ok(Nvrtc(opened.map_err(|error| format!("{}: {error}; {remedy}", path.display()))?))
    }

    fn call<F: Copy>(&self, name: &str) -> Result<F, Box<dyn Error>> {
        // SAFETY: each caller gives the type that NVRTC's documentation has for the name.
        Ok(*unsafe { self.0.get::<F>(name.as_bytes()) }?)
    }

    /// Major and minor version.
    ///
    /// # Errors
    /// A library without the function.
    pub fn version(&self) -> Result<(i32, i32), Box<dyn Error>> {
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = self.call("nvrtcVersion")?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: it writes two numbers.
        done("nvrtcVersion", unsafe { version(&raw mut major, &raw mut minor) })?;
        Ok((major, minor))
    }

    /// PTX of one source file, which may include the headers.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn compile(&self, name: &str, source: &str, headers: &[(String, String)]) -> Result<String, Box<dyn Error>> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let create: Create = self.call("nvrtcCreateProgram")?;
        let destroy: unsafe extern "C" fn(*mut Program) -> c_int = self.call("nvrtcDestroyProgram")?;
        let compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int =
            self.call("nvrtcCompileProgram")?;
        let (source, own_name) = (CString::new(source)?, CString::new(name)?);
        let (names, texts): (Vec<&String>, Vec<&String>) = headers.iter().map(|(name, text)| (name, text)).unzip();
        let (names, texts, options) = (Strings::of(&names)?, Strings::of(&texts)?, Strings::of(&OPTIONS)?);
        let count = headers.len() as c_int;
        let mut program = null_mut();
        // SAFETY: all texts end with 0 and live until the program is gone; counts are those of the arrays.
        unsafe {
            let created = create(
                &raw mut program,
                source.as_ptr(),
                own_name.as_ptr(),
                count,
                texts.pointers.as_ptr(),
                names.pointers.as_ptr(),
            );
            done("nvrtcCreateProgram", created)?;
            let compiled = compile(program, OPTIONS.len() as c_int, options.pointers.as_ptr());
            let made = match compiled {
                0 => self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX"),
                _ => Err(self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?.into()),
            };
            destroy(&raw mut program);
            made
        }
    }

    /// A text that a program has.
    fn text(&self, program: Program, size: &str, get: &str) -> Result<String, Box<dyn Error>> {
        let size_of: unsafe extern "C" fn(Program, *mut usize) -> c_int = self.call(size)?;
        let copy: unsafe extern "C" fn(Program, *mut c_char) -> c_int = self.call(get)?;
        let mut bytes = 0;
        // SAFETY: it writes one number.
        done(size, unsafe { size_of(program, &raw mut bytes) })?;
        let mut text = vec![0u8; bytes];
        // SAFETY: there is room for as many bytes as it said.
        done(get, unsafe { copy(program, text.as_mut_ptr().cast()) })?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        text.truncate(end);
        Ok(String::from_utf8(text)?)
    }
}

/// Texts that end with 0, and where they are.
struct Strings {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    fn of(texts: &[impl AsRef<str>]) -> Result<Strings, Box<dyn Error>> {
        let texts: Vec<CString> = texts.iter().map(|text| CString::new(text.as_ref())).collect::<Result<_, _>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).collect();
        Ok(Strings { _texts: texts, pointers })
    }
}

fn done(call: &str, error: c_int) -> Result<(), Box<dyn Error>> {
    if error == 0 { Ok(()) } else { Err(format!("{call} failed: error {error}").into()) }
}
