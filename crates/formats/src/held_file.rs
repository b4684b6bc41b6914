//! A file that is held open, and hashes of what is read.
//!
//! Invariant: what is read, hashed or copied here is the file that was opened, whatever its path leads to by now: a file
//! that was moved, replaced or removed meanwhile is still there for who holds it. One that was written to is noticed by its
//! size and time of change.

use crate::json::open_regular;
use crate::{FormatsError, write_atomic_with};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Pieces that files are hashed and copied in.
const PIECE_BYTES: usize = 1 << 16;

/// An open regular file and how it was when it was opened.
#[derive(Debug)]
pub struct HeldFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl HeldFile {
    /// Opens a file; `remedy` is for one that is missing.
    ///
    /// # Errors
    /// A file that is missing, cannot be read or is not a regular one.
    pub fn open(path: &Path, remedy: &'static str) -> Result<Self, FormatsError> {
        let (file, _) = open_regular(path, remedy)?;
        let metadata = file.metadata().map_err(FormatsError::io(path, "open the file"))?;
        let modified = metadata.modified().ok();
        Ok(HeldFile { path: path.to_path_buf(), file, bytes: metadata.len(), modified })
    }

    /// As [`HeldFile::open`]; `None` if there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read or is not a regular one.
    pub fn open_optional(path: &Path) -> Result<Option<Self>, FormatsError> {
        match HeldFile::open(path, "") {
            Ok(file) => Ok(Some(file)),
            Err(FormatsError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nobody has written to it since it was opened, by its size and time of change.
    pub fn is_unchanged(&self) -> bool {
        let same = |now: Metadata| now.len() == self.bytes && now.modified().ok() == self.modified;
        self.file.metadata().is_ok_and(same)
    }

    /// The same open file, to be read by someone else.
    ///
    /// # Errors
    /// Too many open files.
    pub fn handle(&self) -> Result<File, FormatsError> {
        self.file.try_clone().map_err(FormatsError::io(&self.path, "open the file"))
    }

    /// Fills `target` with the bytes at `at`.
    ///
    /// # Errors
    /// A read that fails; a file that ends before.
    pub(crate) fn read_exact_at(&self, target: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(target, at)
    }

    /// SHA-256 of its contents, in lower-case hexadecimal.
    ///
    /// # Errors
    /// A read that fails; a file that was written to since it was opened, so that its hash is not that of what was read.
    pub fn sha256(&self) -> Result<String, FormatsError> {
        let mut hasher = Sha256::new();
        self.pieces(&mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        // Asked last, so that a change while it was hashed is noticed, too.
        match self.is_unchanged() {
            true => Ok(hexadecimal(hasher)),
            false => Err(FormatsError::malformed(&self.path, "was changed after it was opened")),
        }
    }

    /// Copies what it holds to `path`, atomically and in pieces.
    ///
    /// # Errors
    /// A read or write that fails.
    pub fn copy_to(&self, path: &Path) -> Result<(), FormatsError> {
        write_atomic_with(path, |file| {
            self.pieces(&mut |piece| file.write_all(piece).map_err(FormatsError::io(path, "write the file")))
        })
    }

    fn pieces(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>) -> Result<(), FormatsError> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut at = 0;
        loop {
            let read = match self.file.read_at(&mut buffer, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(FormatsError::io(&self.path, "read the file"))?,
            };
            if read == 0 {
                return Ok(());
            }
            sink(&buffer[..read])?;
            at += read as u64;
        }
    }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    reader: R,
    hasher: Sha256,
}

impl<R: Read> HashingReader<R> {
    /// Of a reader at its beginning.
    pub fn new(reader: R) -> Self {
        HashingReader { reader, hasher: Sha256::new() }
    }

    /// SHA-256 of all that was read, in lower-case hexadecimal.
    pub fn sha256(self) -> String {
        hexadecimal(self.hasher)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
