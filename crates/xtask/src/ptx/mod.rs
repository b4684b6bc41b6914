//! Kernels compiled to PTX: `cargo xtask ptx` writes the archive that the CUDA device embeds, `--check` says whether the one that is
//! there is what the sources give, `--report` what each kernel takes on which architecture.
//!
//! NVRTC is found by `--nvrtc PATH`, by the variable `REMAT_NVRTC`, or by its usual name; ptxas by `--ptxas PATH`, `REMAT_PTXAS`,
//! or its name. Both come with the Python wheels nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvcc-cu12; no toolkit is needed. Invariant:
//! the archive follows from the sources and NVRTC's version alone.

mod nvrtc;
mod occupancy;
mod report;

use nvrtc::Nvrtc;
use remat_cuda::archive::{Archive, pack};
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The version that the archive in the repository was made by: another may give other PTX.
const VERSION: (i32, i32) = (12, 9);
/// What NVRTC writes at the head, and the oldest that all kernels are: ptxas is asked whether they are.
const NEWEST_ISA: &str = "\n.version 8.8\n";
const OLDEST_ISA: &str = "\n.version 7.0\n";

/// Runs the chore; false if a check fails.
///
/// # Errors
/// No NVRTC, a kernel that does not compile, files that cannot be written.
pub fn run(root: &Path, arguments: &[String]) -> Outcome<bool> {
    let kernels = root.join("crates/cuda/kernels");
    let archive = kernels.join("ptx.zlib");
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    if flag("--report") {
        let ptxas = found(arguments, "--ptxas", "REMAT_PTXAS", "ptxas");
        let bytes = fs::read(archive)?;
        let archive = Archive::read(&bytes)?;
        let text = |name: &str| archive.text(name).map(|text| (name.to_string(), text));
        return report::run(&ptxas, &archive.names().map(text).collect::<Result<Vec<_>, _>>()?);
    }
    let nvrtc = Nvrtc::open(&found(arguments, "--nvrtc", "REMAT_NVRTC", "libnvrtc.so.12"))?;
    let version = nvrtc.version()?;
    if version != VERSION {
        return Err(
            format!("NVRTC {}.{}; the archive is made by {}.{}", version.0, version.1, VERSION.0, VERSION.1).into()
        );
    }
    let modules = compile(&nvrtc, &kernels)?;
    let packed = pack(&modules)?;
    let text: usize = modules.iter().map(|(_, text)| text.len()).sum();
    println!("{} modules, {text} bytes of PTX, {} packed", modules.len(), packed.len());
    if flag("--check") {
        let same = fs::read(&archive).is_ok_and(|there| there == packed);
        println!(
            "{}: {}",
            archive.display(),
            if same { "is what the sources give" } else { "is not what the sources give" }
        );
        return Ok(same);
    }
    fs::write(&archive, packed)?;
    Ok(true)
}

/// Runs what takes minutes of the CUDA device's tests: every family and method on an emulated card.
///
/// # Errors
/// No cargo.
pub fn soak(root: &Path) -> Outcome<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments =
        ["test", "--profile", "ci", "-p", "remat-cuda", "-p", "remat-testkit", "--test", "samples", "--test", "cuda"];
    let behind = ["--", "--ignored", "--nocapture", "--test-threads", "2"];
    let status = std::process::Command::new(cargo).current_dir(root).args(arguments).args(behind).status()?;
    Ok(status.success())
}

fn found(arguments: &[String], flag: &str, variable: &str, usual: &str) -> PathBuf {
    let given = arguments.iter().position(|argument| argument == flag).and_then(|at| arguments.get(at + 1));
    let given = given.map(OsString::from).or_else(|| std::env::var_os(variable));
    given.map_or_else(|| PathBuf::from(usual), PathBuf::from)
}

/// Names and texts of all modules, sorted.
fn compile(nvrtc: &Nvrtc, kernels: &Path) -> Outcome<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(kernels)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    let with = |ending: &'static str| files.iter().filter(move |file| file.extension().is_some_and(|e| e == ending));
    let read = |file: &PathBuf| -> Outcome<(String, String)> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::read_to_string(file)?))
    };
    let headers: Vec<(String, String)> = with("cuh").map(read).collect::<Result<_, _>>()?;
    let modules = with("cu").map(|file| {
        let (name, source) = read(file)?;
        let text = nvrtc.compile(&name, &source, &headers)?;
        if !text.contains(NEWEST_ISA) {
            return Err(format!("{name}: the PTX does not say {}", NEWEST_ISA.trim()).into());
        }
        Ok((name.trim_end_matches(".cu").to_string(), text.replacen(NEWEST_ISA, OLDEST_ISA, 1)))
    });
    modules.collect()
}
