//! What each kernel takes by ptxas: registers, shared bytes, spills; and how many warps a multiprocessor has of it at a time.

use super::occupancy::{ARCHITECTURES, Architecture};
use remat_cuda::dynamic_shared_bytes;
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One kernel on one architecture.
struct Row {
    kernel: String,
    registers: u32,
    shared_bytes: u32,
    spilled_bytes: u32,
}

/// Prints a table; false if a kernel spills.
///
/// # Errors
/// No ptxas, or PTX that it refuses.
pub fn run(ptxas: &Path, modules: &[(String, String)]) -> Result<bool, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("remat-ptx-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let made = table(ptxas, modules, &folder);
    fs::remove_dir_all(&folder)?;
    made
}

fn table(ptxas: &Path, modules: &[(String, String)], folder: &Path) -> Result<bool, Box<dyn Error>> {
    println!("{:<8}{:<40}{:>10}{:>10}{:>10}{:>11}", "", "kernel", "registers", "shared", "spilled", "occupancy");
    let (mut kernels, mut spilling) = (0, 0);
    for architecture in ARCHITECTURES {
        for (name, text) in modules {
            let threads = threads(text);
            for mut row in assembled(ptxas, architecture.name, name, text, folder)? {
                row.shared_bytes += dynamic_shared_bytes(&row.kernel) as u32;
                print(&architecture, &row, threads.get(&row.kernel).copied().unwrap_or(USUAL_THREADS));
                kernels += 1;
                spilling += usize::from(row.spilled_bytes > 0);
            }
        }
    }
    println!("{kernels} kernels for {} architectures, {spilling} spill", ARCHITECTURES.len());
    Ok(spilling == 0)
}

fn print(architecture: &Architecture, row: &Row, threads: u32) {
    let Row { kernel, registers, shared_bytes, spilled_bytes } = row;
    let percent = 100.0 * architecture.occupancy(threads, *registers, *shared_bytes);
    let name = architecture.name;
    println!("{name:<8}{kernel:<40}{registers:>10}{shared_bytes:>10}{spilled_bytes:>10}{percent:>10.0}%");
}

/// What ptxas says of one module.
fn assembled(
    ptxas: &Path,
    architecture: &str,
    name: &str,
    text: &str,
    folder: &Path,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let file = folder.join(format!("{name}.ptx"));
    fs::write(&file, text)?;
    let arch = format!("-arch={architecture}");
    let ran = Command::new(ptxas).args([&arch, "-v", "-o", "/dev/null"]).arg(&file).output();
    let ran = ran.map_err(|error| format!("{}: {error}; name it by --ptxas or REMAT_PTXAS", ptxas.display()))?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if !ran.status.success() {
        return Err(format!("{name} for {architecture}: {said}").into());
    }
    Ok(rows(&said))
}

/// Threads of a block of kernels that do not say.
const USUAL_THREADS: u32 = 256;

/// Threads of a block, of kernels that say.
fn threads(text: &str) -> HashMap<String, u32> {
    let (mut threads, mut kernel) = (HashMap::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(".visible .entry ") {
            kernel = name.trim_end_matches('(').to_string();
        } else if let Some(sizes) = line.strip_prefix(".maxntid ") {
            let product = sizes.split(',').filter_map(|size| size.trim().parse::<u32>().ok()).product();
            threads.insert(kernel.clone(), product);
        }
    }
    threads
}

/// Reads ptxas' notes: for each kernel a line that names it, one on its stack, one on registers.
fn rows(said: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let before = |line: &str, words: &str| -> u32 {
        let found = line.split(words).next().and_then(|head| head.split_whitespace().last()?.parse().ok());
        if line.contains(words) { found.unwrap_or(0) } else { 0 }
    };
    for line in said.lines() {
        if let Some(kernel) = line.split('\'').nth(1).filter(|_| line.contains("Compiling entry function")) {
            rows.push(Row { kernel: kernel.to_string(), registers: 0, shared_bytes: 0, spilled_bytes: 0 });
        } else if let Some(row) = rows.last_mut() {
            row.spilled_bytes = row.spilled_bytes.max(before(line, " bytes spill stores"));
            row.registers = row.registers.max(before(line, " registers"));
            row.shared_bytes = row.shared_bytes.max(before(line, " bytes smem"));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_read() {
        let text = ".visible .entry k(\n\t.param .u64 a\n)\n.maxntid 128, 2, 1\n{\n}\n.visible .entry l(\n)\n{\n}\n";
        assert_eq!(threads(text), HashMap::from([("k".to_string(), 256)]));
    }

    #[test]
    fn notes_of_ptxas_are_read() {
        let said = "ptxas info    : Compiling entry function 'k' for 'sm_80'\n\
                    ptxas info    : Function properties for k\n    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads\n\
                    ptxas info    : Used 40 registers, used 1 barriers, 2560 bytes smem, 480 bytes cmem[0]\n";
        let rows = rows(said);
        let row = &rows[0];
        assert_eq!((row.kernel.as_str(), row.registers, row.shared_bytes, row.spilled_bytes), ("k", 40, 2560, 12));
    }
}
