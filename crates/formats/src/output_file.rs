//! A file that a person names for a result: `--report`, `--trace`, `--timeline`.
//!
//! What is under the name decides how it is written, and is looked at before the work begins:
//!
//! | there | what happens |
//! |---|---|
//! | nothing, or a regular file | the new contents replace it at once when they are whole |
//! | a link | stays; what it leads to is treated as if it had been named |
//! | a pipe or a character device (`/dev/null`, `/dev/stdout`, a terminal) | is opened at once and written through |
//! | a folder, a socket, a block device | refused |
//!
//! Invariant: [`OutputFile::open`] changes nothing that is there, and what it accepts could be written at that moment: the
//! folder takes new files, a file is not read-only, a pipe has a reader. Look next at `places` for what must not be named.

use crate::FormatsError;
use crate::atomic::{create_temporary, write_atomic_with};
use crate::places::resolve;
use std::fs::{self, File};
use std::io::{BufWriter, Error, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file to write, found writable.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    target: Target,
}

/// The flag and what it names, for messages.
#[derive(Clone, Copy)]
struct Named<'a> {
    flag: &'a str,
    path: &'a Path,
}

#[derive(Debug)]
enum Target {
    /// A regular file or none, at the end of all links.
    Replaced(PathBuf),
    /// A pipe or device, open.
    WrittenThrough(File),
}

impl OutputFile {
    /// Looks at what is under the name and makes sure that it can be written.
    ///
    /// # Errors
    /// What is no place for a file, is absent with its folder, or may not be written.
    pub fn open(flag: &str, path: &Path) -> Result<Self, FormatsError> {
        let named = Named { flag, path };
        let there = match fs::metadata(path) {
            Ok(found) => Some(found.file_type()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(named.cannot_be_written(&error)),
        };
        let target = match there {
            Some(kind) if kind.is_fifo() => Target::WrittenThrough(open_pipe(named)?),
            Some(kind) if kind.is_char_device() => {
                let device = File::options().write(true).open(path);
                Target::WrittenThrough(device.map_err(|error| named.cannot_be_written(&error))?)
            }
            Some(kind) if kind.is_dir() => return Err(named.refused("is a folder; name a file in it")),
            Some(kind) if !kind.is_file() => {
                return Err(named.refused("is a socket or a disk, not a file; name another file"));
            }
            _ => Target::Replaced(replaceable(named, there.is_some())?),
        };
        Ok(OutputFile { path: path.to_path_buf(), target })
    }

    /// Its name, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system refuses now; a file that was there is as it was then.
    pub fn write(self, bytes: &[u8]) -> Result<(), FormatsError> {
        let failed = |path: &Path, error| FormatsError::not_written(path, "write the file")(error);
        let path = self.path.clone();
        self.write_with(|file| file.write_all(bytes).map_err(|error| failed(&path, error)))
    }

    /// As [`write`](Self::write), with the contents written by `fill`.
    ///
    /// # Errors
    /// As [`write`](Self::write); what `fill` returns.
    pub fn write_with(
        self,
        fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        match self.target {
            Target::Replaced(path) => write_atomic_with(&path, fill),
            Target::WrittenThrough(stream) => {
                let mut stream = BufWriter::new(stream);
                fill(&mut stream)?;
                stream.flush().map_err(FormatsError::not_written(&self.path, "write to it"))
            }
        }
    }
}

impl Named<'_> {
    fn refused(self, problem: impl Into<String>) -> FormatsError {
        FormatsError::Output { output: format!("{} {}", self.flag, self.path.display()), problem: problem.into() }
    }

    fn cannot_be_written(self, error: &Error) -> FormatsError {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "make its folder first",
            _ => "name a file that you may write",
        };
        self.refused(format!("cannot be written: {error}; {remedy}"))
    }
}

/// A pipe that somebody reads. Without a reader, opening one waits, maybe for ever.
fn open_pipe(named: Named<'_>) -> Result<File, FormatsError> {
    let open = |flags| File::options().write(true).custom_flags(flags).open(named.path);
    let at_once = open(libc::O_NONBLOCK).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => named.refused("is a pipe that nobody reads; start its reader first"),
        _ => named.cannot_be_written(&error),
    })?;
    // The one that is written to waits where the reader is slower; the other held the reader meanwhile.
    let waiting = open(0).map_err(|error| named.cannot_be_written(&error));
    drop(at_once);
    waiting
}

/// The path at the end of all links, in a folder that takes new files.
fn replaceable(named: Named<'_>, exists: bool) -> Result<PathBuf, FormatsError> {
    let refused = |error: Error| named.cannot_be_written(&error);
    let target = resolve(named.path).map_err(refused)?;
    if exists {
        // A rename would not ask whether the file itself may be written.
        File::options().write(true).open(&target).map_err(refused)?;
    }
    let temporary = create_temporary(&target).map_err(|error| match error {
        FormatsError::NotWritten { source, .. } => refused(source),
        other => other,
    })?;
    fs::remove_file(&temporary.path).map_err(refused)?;
    Ok(target)
}
