//! Files without a name that are reserved whole: what leaves memory goes to them.
//!
//! Invariant: a disk that is too small is an error when the file is made, and nothing is left behind however the process ends.

use remat_plan::DeviceError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files are reserved and measured in pieces of this size.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Why a folder will not do.
pub(super) fn refusal(folder: &Path, bytes: u64, error: &io::Error) -> DeviceError {
    let (folder, problem) = (folder.display().to_string(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DeviceError::NoSpillSpace { folder, bytes, problem }
        }
        _ => DeviceError::BadSpillFolder { folder, problem },
    }
}

/// A file in a folder that never had a name, or, where the file system cannot do that, loses it at once.
pub(super) fn nameless_file(folder: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let nameless = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder);
        match nameless {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {}
            other => return other,
        }
    }
    let path = folder.join(format!(".remat-spill-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Makes room for the whole file: asks the file system for it; where that cannot promise any, writes it once.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the descriptor is open; no memory is involved.
        let refused = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0;
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EINTR) if refused => {}
            _ if refused => return Err(error),
            _ => return Ok(()),
        }
    }
    let piece = vec![0_u8; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(PIECE_BYTES as u64);
        file.write_all_at(&piece[..length as usize], at)?;
        at += length;
    }
    Ok(())
}
