//! The file of weights that are not resident: written at load, read by the copy queue in every run.
//!
//! Invariants: the file has no name and is reserved whole before anything is written to it; its bytes pass by the page cache,
//! through a buffer that is counted, or where the file system cannot do that, are dropped from the cache at once: so neither
//! the process nor its control group holds them.

use super::memory::Region;
use super::reserved_file::{nameless_file, refusal, reserve};
use remat_plan::DeviceError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What reads past the page cache begin and end at.
const BLOCK_BYTES: usize = 4096;

/// The buffer that reads go through.
pub(super) const BOUNCE_BYTES: usize = 2 << 20;

/// Written bytes after which the cache is asked to let go of them.
const WRITTEN_BYTES: usize = 16 << 20;

/// Where a source of so many bytes begins that follows `end`.
pub(super) fn next_home(end: u64) -> u64 {
    end.next_multiple_of(BLOCK_BYTES as u64)
}

/// The file, and what goes through it.
pub(super) struct WeightsFile {
    file: File,
    /// The same past the page cache, where the file system can do that.
    direct: Option<File>,
    folder: PathBuf,
    bytes: u64,
    buffer: Mutex<Buffer>,
}

struct Buffer {
    region: Region,
    /// Written, and not yet dropped from the cache.
    written: usize,
}

impl WeightsFile {
    /// Reserves a file of so many bytes.
    ///
    /// # Errors
    /// A folder that cannot be written to, or has no room; memory for the buffer.
    pub(super) fn create(folder: &Path, bytes: u64) -> Result<Self, DeviceError> {
        let bytes = next_home(bytes);
        let file = nameless_file(folder).and_then(|file| reserve(&file, bytes).map(|()| file));
        let file = file.map_err(|error| refusal(folder, bytes, &error))?;
        let direct = past_the_cache(&file);
        let region = Region::new(BOUNCE_BYTES, "the buffer that weights are read through")?;
        let buffer = Mutex::new(Buffer { region, written: 0 });
        Ok(WeightsFile { file, direct, folder: folder.to_path_buf(), bytes, buffer })
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Why a copy failed.
    pub(super) fn failed(&self, error: &io::Error) -> DeviceError {
        DeviceError::Spill { folder: self.folder.display().to_string(), problem: error.to_string() }
    }

    /// Writes bytes from `at` on.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.written += bytes.len();
        if buffer.written >= WRITTEN_BYTES {
            buffer.written = 0;
            self.flush()?;
        }
        Ok(())
    }

    /// Lets the cache go of everything that was written.
    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()?;
        drop_from_cache(&self.file);
        Ok(())
    }

    /// Reads bytes from `at` on.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.written > 0 {
            buffer.written = 0;
            self.flush()?;
        }
        let Some(direct) = &self.direct else {
            for (index, piece) in into.chunks_mut(BOUNCE_BYTES).enumerate() {
                self.file.read_exact_at(piece, at + (index * BOUNCE_BYTES) as u64)?;
                drop_from_cache(&self.file);
            }
            return Ok(());
        };
        let bounce = buffer.region.bytes_mut();
        let mut done = 0;
        while done < into.len() {
            let from = at + done as u64;
            let skip = (from % BLOCK_BYTES as u64) as usize;
            let length = (into.len() - done).min(BOUNCE_BYTES - skip);
            let blocks = &mut bounce[..(skip + length).next_multiple_of(BLOCK_BYTES)];
            direct.read_exact_at(blocks, from - skip as u64)?;
            into[done..done + length].copy_from_slice(&blocks[skip..skip + length]);
            done += length;
        }
        Ok(())
    }
}

/// The same file, opened anew so that reads of it pass by the page cache.
#[cfg(target_os = "linux")]
fn past_the_cache(file: &File) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn past_the_cache(_: &File) -> Option<File> {
    None
}

/// Asks the system to forget the file's pages.
fn drop_from_cache(file: &File) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open; the call only advises.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_comes_back_and_the_folder_stays_empty() {
        let folder = std::env::temp_dir();
        let bytes: Vec<u8> = (0..BOUNCE_BYTES + 12_345).map(|index| (index * 31 % 251) as u8).collect();
        let mut file = WeightsFile::create(&folder, bytes.len() as u64 + 100).expect("room");
        for direct in [true, false] {
            file.write(100, &bytes[..5000]).expect("written");
            file.write(5100, &bytes[5000..]).expect("written");
            for (from, to) in [(0, bytes.len()), (1, 2), (4096 - 100, 4097), (BOUNCE_BYTES - 3, bytes.len()), (7, 7)] {
                let mut read = vec![0; to - from];
                file.read(100 + from as u64, &mut read).expect("read");
                assert!(read == bytes[from..to], "{from} to {to}, direct {direct}");
            }
            file.direct = None;
        }
        let past_end = file.read(file.bytes, &mut [0; 10]).expect_err("there is nothing");
        assert_eq!(past_end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
