//! What each kernel takes by ptxas: registers, shared bytes, spills.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where kernels will run: A100, RTX 30, RTX 40, H100, RTX 50.
const ARCHITECTURES: [&str; 5] = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"];

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
    println!("{:<8}{:<40}{:>10}{:>10}{:>10}", "", "kernel", "registers", "shared", "spilled");
    let (mut kernels, mut spilling) = (0, 0);
    for architecture in ARCHITECTURES {
        for (name, text) in modules {
            let file = folder.join(format!("{name}.ptx"));
            fs::write(&file, text)?;
            let arch = format!("-arch={architecture}");
            let ran = Command::new(ptxas).args([&arch, "-v", "-o", "/dev/null"]).arg(&file).output();
            let ran =
                ran.map_err(|error| format!("{}: {error}; name it by --ptxas or REMAT_PTXAS", ptxas.display()))?;
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            if !ran.status.success() {
                return Err(format!("{name} for {architecture}: {said}").into());
            }
            for row in rows(&said) {
                let Row { kernel, registers, shared_bytes, spilled_bytes } = row;
                println!("{architecture:<8}{kernel:<40}{registers:>10}{shared_bytes:>10}{spilled_bytes:>10}");
                kernels += 1;
                spilling += usize::from(spilled_bytes > 0);
            }
        }
    }
    println!("{kernels} kernels for {} architectures, {spilling} spill", ARCHITECTURES.len());
    Ok(spilling == 0)
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
    fn notes_of_ptxas_are_read() {
        let said = "ptxas info    : Compiling entry function 'k' for 'sm_80'\n\
                    ptxas info    : Function properties for k\n    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads\n\
                    ptxas info    : Used 40 registers, used 1 barriers, 2560 bytes smem, 480 bytes cmem[0]\n";
        let rows = rows(said);
        let row = &rows[0];
        assert_eq!((row.kernel.as_str(), row.registers, row.shared_bytes, row.spilled_bytes), ("k", 40, 2560, 12));
    }
}
