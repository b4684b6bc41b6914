//! Writing files so that a reader sees the old one or the new one, never a torn one; and hashing them.
//!
//! Invariant: a path is only ever given its name by a rename within its folder, after its bytes have reached the disk. A
//! name is a name: where it is a link, the link is replaced and what it leads to stays as it is; a device, a pipe or a
//! folder under that name is never replaced. A file that a person names with a flag is another matter: see `output_file`.

use crate::FormatsError;
use crate::json::open_regular;
use crate::unfinished::{Unfinished, named_unfinished, parent, unfinished_file};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Error, ErrorKind, Read, Write};
use std::path::Path;

/// Writes `bytes` to `path`: a temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// Whatever the system refuses; the temporary file is removed then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FormatsError> {
    write_atomic_with(path, |file| file.write_all(bytes).map_err(FormatsError::not_written(path, "write the file")))
}

/// As [`write_atomic`], with the contents written by `fill`, so that they are never in memory as a whole.
///
/// # Errors
/// As [`write_atomic`]; what `fill` returns.
pub fn write_atomic_with<E: From<FormatsError>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    if path.symlink_metadata().is_ok_and(|found| !found.is_file() && !found.is_symlink() && !found.is_dir()) {
        let source = Error::new(ErrorKind::AlreadyExists, "a device, a pipe or a socket is there; move it away");
        return Err(FormatsError::not_written(path, "replace what is no file")(source).into());
    }
    let Unfinished { lock: file, path: temporary } = create_temporary(path)?;
    let failed = |source: Error| FormatsError::not_written(path, "write the file")(source);
    let write = || -> Result<(), E> {
        // As long as one of the two is open, nobody sweeps the file: until it has its name.
        let _held = file.try_clone().map_err(failed)?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        fill(&mut file)?;
        file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        Ok(fs::rename(&temporary, path).map_err(failed)?)
    };
    write().inspect_err(|_| {
        // The write has failed already; a leftover that cannot be removed either changes nothing.
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(fsync_folder(path.parent().unwrap_or(Path::new(".")))?)
}

/// Gives the name `path` to a file that has none, such as one of `tempfile::tempfile_in`, without copying it; false where
/// that cannot be done: the file has had a name, is on another disk, or the file system knows no such files.
///
/// # Errors
/// A file that does not reach the disk.
pub fn name_unnamed(file: &File, path: &Path) -> Result<bool, FormatsError> {
    file.sync_all().map_err(FormatsError::not_written(path, "write the file"))?;
    // A link takes no name that is there; a rename does.
    if !link_open(file, path) {
        let Some(temporary) = named_unfinished(file, parent(path), link_open) else { return Ok(false) };
        if fs::rename(&temporary, path).is_err() {
            // Whoever copies the file meets what is in the way, and says so.
            let _ = fs::remove_file(&temporary);
            return Ok(false);
        }
    }
    fsync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(true)
}

#[cfg(target_os = "linux")]
fn link_open(file: &File, path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn link_open(_: &File, _: &Path) -> bool {
    false
}

/// Makes renames inside a folder durable.
///
/// # Errors
/// Whatever the system refuses.
pub fn fsync_folder(folder: &Path) -> Result<(), FormatsError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|file| file.sync_all()).map_err(FormatsError::not_written(folder, "sync the folder"))
}

/// A new file beside `path`.
pub(crate) fn create_temporary(path: &Path) -> Result<Unfinished, FormatsError> {
    unfinished_file(parent(path)).map_err(FormatsError::not_written(path, "create the file"))
}

/// SHA-256 of a file's contents, in lower-case hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, FormatsError> {
    let (mut file, _) = open_regular(path, "a file that was to be hashed is gone; run again")?;
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
