//! Files of weights and states that are read and written past the page cache, so that neither the process nor its control group holds what passed.
//!
//! Method: O_DIRECT through a buffer of whole blocks, which the caller counts; where the file system cannot do that, reads
//! and writes through the cache, which is asked to forget the pages at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What reads past the page cache begin and end at.
pub(super) const BLOCK_BYTES: usize = 4096;

/// An open file.
pub(super) struct UncachedFile {
    file: File,
    /// The same past the page cache, where the file system can do that.
    direct: Option<File>,
}

impl UncachedFile {
    pub(super) fn of(file: File) -> Self {
        let direct = past_the_cache(&file, false);
        UncachedFile { file, direct }
    }

    /// The same of a file that is written, too.
    pub(super) fn to_write(file: File) -> Self {
        let direct = past_the_cache(&file, true);
        UncachedFile { file, direct }
    }

    /// Writes whole blocks that begin at a page, to where a block begins.
    pub(super) fn write_blocks(&self, at: u64, blocks: &[u8]) -> io::Result<()> {
        debug_assert!(blocks.len().is_multiple_of(BLOCK_BYTES) && at.is_multiple_of(BLOCK_BYTES as u64));
        match self.direct.as_ref().map(|direct| direct.write_all_at(blocks, at)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.raw_os_error() != Some(INVALID) => Err(error),
            // Some file systems refuse it only when it is tried.
            _ => {
                self.file.write_all_at(blocks, at)?;
                self.file.sync_data()?;
                self.forget();
                Ok(())
            }
        }
    }

    /// Reads whole blocks to where a page begins, from where a block begins.
    pub(super) fn read_blocks(&self, at: u64, blocks: &mut [u8]) -> io::Result<()> {
        debug_assert!(blocks.len().is_multiple_of(BLOCK_BYTES) && at.is_multiple_of(BLOCK_BYTES as u64));
        let needed = blocks.len();
        match self.direct.as_ref().map(|direct| read_blocks(direct, blocks, at, needed)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.raw_os_error() != Some(INVALID) => Err(error),
            _ => self.read_and_forget(at, blocks),
        }
    }

    /// The file itself, through the cache.
    pub(super) fn cached(&self) -> &File {
        &self.file
    }

    /// Reads bytes from `at` on, through `bounce`: whole blocks that begin at a page.
    pub(super) fn read(&self, bounce: &mut [u8], at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let from = at + done as u64;
            let skip = (from % BLOCK_BYTES as u64) as usize;
            let length = (into.len() - done).min(bounce.len() - skip);
            let target = &mut into[done..done + length];
            match &self.direct {
                Some(direct) => {
                    let blocks = &mut bounce[..(skip + length).next_multiple_of(BLOCK_BYTES)];
                    match read_blocks(direct, blocks, from - skip as u64, skip + length) {
                        // Some file systems refuse it only when it is tried.
                        Err(error) if error.raw_os_error() == Some(INVALID) => self.read_and_forget(from, target)?,
                        read => read.map(|()| target.copy_from_slice(&blocks[skip..skip + length]))?,
                    }
                }
                None => self.read_and_forget(from, target)?,
            }
            done += length;
        }
        Ok(())
    }

    fn read_and_forget(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)?;
        self.forget();
        Ok(())
    }

    /// Asks the system to forget the file's pages; those that were not written yet stay.
    pub(super) fn forget(&self) {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open; the call only advises.
            unsafe { libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }

    /// The same file without reads past the cache.
    #[cfg(test)]
    pub(super) fn without_direct(self) -> Self {
        UncachedFile { direct: None, ..self }
    }
}

/// What a read past the cache is refused with where it cannot be done.
#[cfg(unix)]
const INVALID: i32 = libc::EINVAL;

/// Fills blocks from the file; its last block may be short, but the first `needed` bytes must be there.
fn read_blocks(file: &File, blocks: &mut [u8], at: u64, needed: usize) -> io::Result<()> {
    let mut done = 0;
    while done < needed {
        match file.read_at(&mut blocks[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same file, opened anew so that reads of it pass by the page cache.
#[cfg(target_os = "linux")]
fn past_the_cache(file: &File, written: bool) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new().read(true).write(written).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn past_the_cache(_: &File, _: bool) -> Option<File> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::memory::Region;
    use crate::executor::reserved_file::nameless_file;

    #[test]
    fn any_range_comes_back_from_a_file_that_ends_within_a_block() {
        let bytes: Vec<u8> = (0..70_001_usize).map(|index| (index * 31 % 251) as u8).collect();
        let file = nameless_file(&std::env::temp_dir()).expect("a file");
        file.write_all_at(&bytes, 0).expect("written");
        file.sync_data().expect("written");
        let mut bounce = Region::new(4 * BLOCK_BYTES, "a test").expect("memory");
        let mut file = UncachedFile::of(file);
        for direct in [true, false] {
            for (from, to) in [(0, bytes.len()), (1, 2), (4096, 8192), (4095, 4097), (16_383, 70_001), (7, 7)] {
                let mut read = vec![0; to - from];
                file.read(bounce.bytes_mut(), from as u64, &mut read).expect("read");
                assert!(read == bytes[from..to], "{from} to {to}, direct {direct}");
            }
            let past_end = file.read(bounce.bytes_mut(), 70_000, &mut [0; 2]).expect_err("there is one byte");
            assert_eq!(past_end.kind(), io::ErrorKind::UnexpectedEof);
            file = file.without_direct();
        }
    }
}
