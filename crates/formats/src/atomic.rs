//! Writing files so that a reader sees the old one or the new one, never a torn one; and hashing them.

use crate::FormatsError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`: a temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// Whatever the system refuses; the temporary file is removed then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FormatsError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], with the contents written by `fill`.
pub(crate) fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), FormatsError> {
    let temporary = temporary_name(path);
    let write = || {
        let mut file = std::io::BufWriter::with_capacity(1 << 16, File::create(&temporary)?);
        fill(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The write has failed already; a leftover that cannot be removed either changes nothing.
        let _ = fs::remove_file(&temporary);
        FormatsError::Io { path: path.to_path_buf(), action: "write the file", source }
    })?;
    fsync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes renames inside a folder durable.
///
/// # Errors
/// Whatever the system refuses.
pub fn fsync_folder(folder: &Path) -> Result<(), FormatsError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|file| file.sync_all()).map_err(FormatsError::io(folder, "sync the folder"))
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// SHA-256 of a file's contents, in lower-case hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, FormatsError> {
    let mut file = File::open(path).map_err(FormatsError::io(path, "open the file"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(FormatsError::io(path, "read the file"))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
