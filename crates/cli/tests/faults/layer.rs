//! The layer that is preloaded, and the binary with it.

use crate::prices::NO_CACHE;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What goes wrong, at which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Fail(usize),
    Full(usize),
    Kill(usize),
}

impl Fault {
    pub fn fail(number: usize) -> Self {
        Fault::Fail(number)
    }

    pub fn full(number: usize) -> Self {
        Fault::Full(number)
    }

    pub fn kill(number: usize) -> Self {
        Fault::Kill(number)
    }

    pub fn kills(self) -> bool {
        matches!(self, Fault::Kill(_))
    }

    fn asked(self) -> Option<String> {
        match self {
            Fault::None => None,
            Fault::Fail(number) => Some(format!("fail:{number}")),
            Fault::Full(number) => Some(format!("full:{number}")),
            Fault::Kill(number) => Some(format!("kill:{number}")),
        }
    }
}

/// A folder whose files the layer watches.
pub struct Layer {
    folder: TempDir,
    log: TempDir,
}

impl Layer {
    pub fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a folder");
        Layer { folder: folder(), log: folder() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> PathBuf {
        self.log.path().join("calls")
    }

    /// While this file is not there, a disk that is full stays so.
    pub fn room(&self) -> PathBuf {
        self.log.path().join("room")
    }

    /// The binary with the layer between it and the files in the folder.
    pub fn command(&self, arguments: &[OsString], fault: Fault, log: Option<&Path>) -> Command {
        let mut command = plain(arguments);
        command
            .env("LD_PRELOAD", library())
            .env("REMAT_FAULT_BELOW", self.path())
            .env("TMPDIR", self.path().join("tmp"));
        command.env("REMAT_FAULT_ROOM", self.room());
        if let Some(asked) = fault.asked() {
            command.env("REMAT_FAULT", asked);
        }
        if let Some(log) = log {
            command.env("REMAT_FAULT_LOG", log);
        }
        command
    }
}

/// The binary without the layer.
pub fn plain(arguments: &[OsString]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(arguments).env("NO_COLOR", "1").env("XDG_CACHE_HOME", NO_CACHE);
    command
}

/// The calls of a log, each with its path.
pub fn calls(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).expect("the layer logs calls: is it loaded?");
    String::from_utf8_lossy(&text).lines().map(str::to_string).collect()
}

/// The layer's library, which cargo builds beside this test.
fn library() -> PathBuf {
    let beside = std::env::current_exe().expect("this program");
    let library = beside.parent().expect("a folder").join("libremat_faults.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}
