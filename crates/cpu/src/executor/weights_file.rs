//! Files of weights and states that are not resident: one of weights that is written at load, those of the model itself where
//! they hold the very bytes that kernels read, and one of states. The copy queue reads the first two in every run; states go
//! there and back.
//!
//! Invariants: the written file has no name and is reserved whole before anything is written to it; the model's files are
//! held open and only read; all are read past the page cache through one buffer, which is counted. Look next at
//! `uncached_file`.

use super::memory::Region;
use super::reserved_file::{nameless_file, refusal, reserve};
use super::states_file::StatesFile;
use super::uncached_file::{BLOCK_BYTES, UncachedFile};
use remat_plan::{DeviceError, FileRange, WeightPart};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The buffer that reads go through.
pub(super) const BOUNCE_BYTES: usize = 2 << 20;

/// Written bytes after which the cache is asked to let go of them.
const WRITTEN_BYTES: usize = 16 << 20;

/// Where a source of so many bytes begins that follows `end`.
pub(super) fn next_home(end: u64) -> u64 {
    end.next_multiple_of(BLOCK_BYTES as u64)
}

/// Where a weight or a state begins: in which of [`WeightFiles`], and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilePlace {
    pub(super) file: usize,
    pub(super) at: u64,
}

/// Index of the file that is written at load.
pub(super) const WRITTEN: usize = 0;

/// Index of the file of states.
pub(super) const STATES: usize = usize::MAX;

/// What lies under one number.
enum Lies {
    /// Nothing.
    Nowhere,
    /// A file.
    File(UncachedFile),
    /// A weight in parts, which follow each other.
    Parts(Vec<Part>),
}

/// Some bytes of a weight.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// So many from a place of a file on.
    InFile(FilePlace, u64),
    /// Few, and known.
    Known(Vec<u8>),
}

impl Part {
    fn bytes(&self) -> u64 {
        match self {
            Part::InFile(_, bytes) => *bytes,
            Part::Known(bytes) => bytes.len() as u64,
        }
    }
}

/// The model's files, and weights that lie there in parts, by number behind that of the written one.
#[derive(Default)]
pub(super) struct InModel<'a> {
    /// One range of each file, or the parts of one weight.
    lie: Vec<(&'a FileRange, Option<Vec<Part>>)>,
}

impl<'a> InModel<'a> {
    /// Where a weight begins that lies in these parts; `None` where no file has any of it.
    pub(super) fn place_of(&mut self, parts: &'a [WeightPart]) -> Option<FilePlace> {
        if let [WeightPart::InFile(range)] = parts {
            return Some(self.place_in_file(range));
        }
        let range = |part: &'a WeightPart| if let WeightPart::InFile(range) = part { Some(range) } else { None };
        let first = parts.iter().find_map(range)?;
        let parts = parts.iter().map(|part| match part {
            WeightPart::InFile(range) => Part::InFile(self.place_in_file(range), range.bytes),
            WeightPart::Known(bytes) => Part::Known(bytes.clone()),
        });
        let parts = parts.collect();
        self.lie.push((first, Some(parts)));
        Some(FilePlace { file: WRITTEN + self.lie.len(), at: 0 })
    }

    fn place_in_file(&mut self, range: &'a FileRange) -> FilePlace {
        let is_it =
            |(known, parts): &(&FileRange, Option<Vec<Part>>)| parts.is_none() && Arc::ptr_eq(&known.file, &range.file);
        let index = self.lie.iter().position(is_it).unwrap_or_else(|| {
            self.lie.push((range, None));
            self.lie.len() - 1
        });
        FilePlace { file: WRITTEN + 1 + index, at: range.offset }
    }
}

/// The files, and what goes through them.
pub(super) struct WeightFiles {
    /// The one that is written, if there is one, then what lies in the model's.
    files: Vec<(Lies, PathBuf)>,
    written_file_bytes: u64,
    folder: PathBuf,
    buffer: Mutex<Buffer>,
}

struct Buffer {
    region: Region,
    /// Written, and not yet dropped from the cache.
    written: usize,
    states: Option<StatesFile>,
}

impl WeightFiles {
    /// Reserves a file of so many bytes of weights in a folder, if there are any, and one of states, and opens the model's.
    ///
    /// # Errors
    /// A folder that cannot be written to, or has no room; a file that cannot be opened; memory for the buffer.
    pub(super) fn open(
        folder: Option<&Path>,
        bytes: u64,
        state_bytes: u64,
        model: InModel<'_>,
    ) -> Result<Self, DeviceError> {
        let bytes = next_home(bytes);
        let written = match (bytes, folder) {
            (0, _) => (Lies::Nowhere, PathBuf::new()),
            (_, None) => return Err(no_folder()),
            (_, Some(folder)) => {
                let file = nameless_file(folder).and_then(|file| reserve(&file, bytes).map(|()| file));
                let file = file.map_err(|error| refusal(folder, bytes, &error))?;
                (Lies::File(UncachedFile::of(file)), folder.to_path_buf())
            }
        };
        let mut files = vec![written];
        for (FileRange { file, path, .. }, parts) in model.lie {
            let lies = match parts {
                Some(parts) => Lies::Parts(parts),
                None => Lies::File(UncachedFile::of(file.try_clone().map_err(|error| failed(path, &error))?)),
            };
            files.push((lies, path.clone()));
        }
        let states = match (state_bytes, folder) {
            (0, _) => None,
            (_, None) => return Err(no_folder()),
            (_, Some(folder)) => Some(StatesFile::reserved(folder, state_bytes)?),
        };
        let region = Region::new(BOUNCE_BYTES, "the buffer that weights are read through")?;
        let folder = folder.map(Path::to_path_buf).unwrap_or_default();
        let buffer = Mutex::new(Buffer { region, written: 0, states });
        Ok(WeightFiles { files, written_file_bytes: bytes, folder, buffer })
    }

    /// Size of the file that is written.
    pub(super) fn written_file_bytes(&self) -> usize {
        self.written_file_bytes as usize
    }

    /// Size of the file of states.
    pub(super) fn states_file_bytes(&self) -> usize {
        self.buffer().states.as_ref().map_or(0, |states| states.bytes() as usize)
    }

    /// Why a copy of a weight or a state failed.
    pub(super) fn failed(&self, place: FilePlace, error: &io::Error) -> DeviceError {
        failed(if place.file == STATES { &self.folder } else { &self.files[place.file].1 }, error)
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // The buffer's bytes are nobody's between two reads.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, index: usize) -> io::Result<&UncachedFile> {
        match &self.files[index].0 {
            Lies::File(file) => Ok(file),
            Lies::Nowhere | Lies::Parts(_) => Err(io::Error::other("there is no file of weights")),
        }
    }

    /// Writes bytes from a place on, of the file of weights or that of states.
    pub(super) fn write(&self, place: FilePlace, bytes: &[u8]) -> io::Result<()> {
        if place.file == STATES {
            let mut buffer = self.buffer();
            let Buffer { region, states, .. } = &mut *buffer;
            return states.as_mut().ok_or_else(no_states)?.write(region.bytes_mut(), place.at, bytes);
        }
        let at = place.at;
        self.file(WRITTEN)?.cached().write_all_at(bytes, at)?;
        let mut buffer = self.buffer();
        buffer.written += bytes.len();
        if buffer.written >= WRITTEN_BYTES {
            self.flush(&mut buffer)?;
        }
        Ok(())
    }

    /// Lets the cache go of everything that was written.
    fn flush(&self, buffer: &mut Buffer) -> io::Result<()> {
        if buffer.written > 0 {
            buffer.written = 0;
            let file = self.file(WRITTEN)?;
            file.cached().sync_data()?;
            file.forget();
        }
        Ok(())
    }

    /// Reads bytes from a place on.
    pub(super) fn read(&self, place: FilePlace, into: &mut [u8]) -> io::Result<()> {
        let mut buffer = self.buffer();
        if place.file == STATES {
            let Buffer { region, states, .. } = &mut *buffer;
            return states.as_ref().ok_or_else(no_states)?.read(region.bytes_mut(), place.at, into);
        }
        self.flush(&mut buffer)?;
        match &self.files[place.file].0 {
            Lies::Parts(parts) => self.gather(parts, &mut buffer, place.at, into),
            _ => self.file(place.file)?.read(buffer.region.bytes_mut(), place.at, into),
        }
    }

    /// Reads bytes of a weight in parts from its byte `at` on.
    fn gather(&self, parts: &[Part], buffer: &mut Buffer, at: u64, mut into: &mut [u8]) -> io::Result<()> {
        let mut skip = at;
        for part in parts {
            let length = part.bytes().saturating_sub(skip).min(into.len() as u64) as usize;
            let (now, rest) = into.split_at_mut(length);
            match part {
                Part::InFile(place, _) => {
                    self.file(place.file)?.read(buffer.region.bytes_mut(), place.at + skip, now)?;
                }
                Part::Known(bytes) if length > 0 => now.copy_from_slice(&bytes[skip as usize..][..length]),
                Part::Known(_) => {}
            }
            (skip, into) = (skip.saturating_sub(part.bytes()), rest);
        }
        if into.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn failed(path: &Path, error: &io::Error) -> DeviceError {
    DeviceError::Spill { folder: path.display().to_string(), problem: error.to_string() }
}

fn no_states() -> io::Error {
    io::Error::other("there is no file of states")
}

/// Plans that copy need a folder.
pub(super) fn no_folder() -> DeviceError {
    DeviceError::BadSpillFolder {
        folder: String::new(),
        problem: "the plan offloads, and no folder was named".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_comes_back_whatever_its_range() {
        let bytes: Vec<u8> = (0..BOUNCE_BYTES + 12_345).map(|index| (index * 31 % 251) as u8).collect();
        let files = WeightFiles::open(Some(&std::env::temp_dir()), bytes.len() as u64 + 100, 0, InModel::default())
            .expect("room");
        let place = |at: usize| FilePlace { file: WRITTEN, at: at as u64 };
        files.write(place(100), &bytes[..5000]).expect("written");
        files.write(place(5100), &bytes[5000..]).expect("written");
        for (from, to) in [(0, bytes.len()), (1, 2), (4096 - 100, 4097), (BOUNCE_BYTES - 3, bytes.len()), (7, 7)] {
            let mut read = vec![0; to - from];
            files.read(place(100 + from), &mut read).expect("read");
            assert!(read == bytes[from..to], "{from} to {to}");
        }
        files.write(place(200), &[7; 3]).expect("written");
        let mut read = [0; 3];
        files.read(place(200), &mut read).expect("read");
        assert_eq!(read, [7; 3], "what is written after a read is read");
        let past_end = files.read(place(files.written_file_bytes()), &mut [0; 10]).expect_err("there is nothing");
        assert_eq!(past_end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn without_a_folder_there_is_no_file_to_write() {
        assert!(matches!(WeightFiles::open(None, 1, 0, InModel::default()), Err(DeviceError::BadSpillFolder { .. })));
        assert!(matches!(WeightFiles::open(None, 0, 1, InModel::default()), Err(DeviceError::BadSpillFolder { .. })));
        let files = WeightFiles::open(None, 0, 0, InModel::default()).expect("nothing to reserve");
        assert!(files.write(FilePlace { file: WRITTEN, at: 0 }, &[1]).is_err() && files.written_file_bytes() == 0);
        let states = FilePlace { file: STATES, at: 0 };
        assert!(files.write(states, &[1]).is_err() && files.read(states, &mut [1]).is_err());
    }
}
