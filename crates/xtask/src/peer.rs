//! The Python process of `peers`: one JSON object per line each way.

use serde_json::Value;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running peer; it ends with this value.
pub(crate) struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the script, with tcmalloc preloaded where the system has it.
    pub fn start(python: &str, script: &Path) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(library) = tcmalloc() {
            command.env("LD_PRELOAD", library);
        }
        let mut child = command.spawn().map_err(|error| format!("--python {python}: {error}"))?;
        let (to, from) = (child.stdin.take().ok_or("no pipe")?, child.stdout.take().ok_or("no pipe")?);
        Ok(Peer { child, to, from: BufReader::new(from) })
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, request: Value) -> Result<Value, Box<dyn Error>> {
        writeln!(self.to, "{request}")?;
        self.to.flush()?;
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("the Python process ended; it needs the packages of bench/peers/requirements.txt".into());
        }
        Ok(serde_json::from_str(&line).map_err(|error| format!("the Python process said {line:?}: {error}"))?)
    }

    /// The seconds that an answer holds.
    pub fn seconds(&mut self, request: Value) -> Result<f64, Box<dyn Error>> {
        self.ask(request)?["seconds"].as_f64().ok_or_else(|| "the Python process gave no seconds".into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing is lost with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The allocator that PyTorch's own guide for CPUs names, where Debian and its kin put it.
fn tcmalloc() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let names = ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"];
    folders.iter().flat_map(|folder| names.map(|name| Path::new(folder).join(name))).find(|path| path.is_file())
}
