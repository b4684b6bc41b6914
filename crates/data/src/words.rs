//! A list of 32-bit words that is written once, from front to back, and then read in runs: in memory while it is short, in
//! a file once it is long. Invariants: at most `MEMORY_WORDS` words are in memory, whatever the length; the file has no
//! name, unless `rows_file` gives it one, and goes with its list; what is read is what was written, or an error.
//!
//! A file is read at places and not mapped: pages of a mapping would count in the process's memory.
//!
//! Look next at `dataset`, whose tokens and index are such lists.

use crate::DataError;
use crate::error::io_error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Words that are held before a file is begun, and at a time while one is written.
pub(crate) const MEMORY_WORDS: usize = 1 << 19;

/// Words that are read or written by one call.
const PART: usize = 1024;

/// The list.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// All words, or those that are not in the file yet.
    memory: Vec<u32>,
    file: Option<Arc<File>>,
    /// The word of the file that is the list's first.
    base: u64,
    in_file: u64,
    folder: PathBuf,
    limit: usize,
}

impl Words {
    /// An empty list that begins its file in `folder` once it has more than `limit` words.
    pub(crate) fn new(folder: &Path, limit: usize) -> Self {
        Words { memory: Vec::new(), file: None, base: 0, in_file: 0, folder: folder.to_path_buf(), limit }
    }

    /// A finished list whose `len` words stand in a file behind `base` others. What is short is in memory here, too.
    pub(crate) fn of_file(file: &Arc<File>, base: u64, len: u64, path: &Path) -> Result<Self, DataError> {
        let (folder, limit) = (path.to_path_buf(), MEMORY_WORDS);
        let list = Words { memory: Vec::new(), file: Some(file.clone()), base, in_file: len, folder, limit };
        if len > MEMORY_WORDS as u64 {
            return Ok(list);
        }
        let mut memory = vec![0; len as usize];
        list.read(0, &mut memory)?;
        Ok(Words { memory, file: None, in_file: 0, ..list })
    }

    /// The file, if it is long.
    pub(crate) fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    /// Gives all words in order, part by part.
    pub(crate) fn each_part(&self, give: &mut dyn FnMut(&[u32]) -> Result<(), DataError>) -> Result<(), DataError> {
        let mut part = [0; PART];
        for start in (0..self.len()).step_by(PART) {
            let part = &mut part[..(self.len() - start).min(PART as u64) as usize];
            self.read(start, part)?;
            give(part)?;
        }
        Ok(())
    }

    /// Writes all words as they stand in a file.
    pub(crate) fn write_to(&self, sink: &mut dyn Write) -> Result<(), DataError> {
        self.each_part(&mut |part| sink.write_all(&bytes_of(part)).map_err(|source| self.not_written(source)))
    }

    fn not_written(&self, source: std::io::Error) -> DataError {
        DataError::NotWritten { path: self.folder.clone(), source }
    }

    pub(crate) fn len(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    /// Adds words at the end.
    pub(crate) fn push(&mut self, words: impl Iterator<Item = u32>) -> Result<(), DataError> {
        for word in words {
            if self.memory.len() == self.limit {
                self.write_out()?;
            }
            self.memory.push(word);
        }
        Ok(())
    }

    /// Says that nothing more is added.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        if self.file.is_some() {
            self.write_out()?;
            self.memory = Vec::new();
        }
        self.memory.shrink_to_fit();
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), DataError> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => Arc::new(tempfile::tempfile_in(&self.folder).map_err(|source| self.not_written(source))?),
        };
        for part in self.memory.chunks(PART) {
            let written = file.write_all_at(&bytes_of(part), 4 * self.in_file);
            written.map_err(|source| DataError::NotWritten { path: self.folder.clone(), source })?;
            self.in_file += part.len() as u64;
        }
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Reads the words from `start` on into all of `out`. Allocates nothing.
    ///
    /// Panics if there are not as many.
    pub(crate) fn read(&self, start: u64, out: &mut [u32]) -> Result<(), DataError> {
        let end = start + out.len() as u64;
        assert!(end <= self.len(), "Words: {start}..{end} of {}", self.len());
        let Some(file) = &self.file else {
            out.copy_from_slice(&self.memory[start as usize..end as usize]);
            return Ok(());
        };
        // A list that is read is finished, or read behind what was written out.
        let split = (self.in_file.clamp(start, end) - start) as usize;
        let (stored, held) = out.split_at_mut(split);
        let first = (start.max(self.in_file) - self.in_file) as usize;
        held.copy_from_slice(&self.memory[first..first + held.len()]);
        let mut bytes = [0; 4 * PART];
        for (index, part) in stored.chunks_mut(PART).enumerate() {
            let bytes = &mut bytes[..4 * part.len()];
            let at = 4 * (self.base + start + (index * PART) as u64);
            file.read_exact_at(bytes, at).map_err(|source| io_error(&self.folder, source))?;
            for (word, bytes) in part.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
        }
        Ok(())
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.memory[..])
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// FNV-1a over 32-bit words: tells data from other data, and is no defence against forgery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(pub(crate) u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn mix(&mut self, word: u32) {
        self.0 = (self.0 ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_what_memory_would() {
        let folder = tempfile::tempdir().expect("folder");
        for limit in [1, 7, 5000, 20_000] {
            let mut words = Words::new(folder.path(), limit);
            for run in 0..10_u32 {
                words.push((0..1000).map(|index| run * 1000 + index)).expect("written");
                assert!(words.memory.len() <= limit);
            }
            for finished in [false, true] {
                if finished {
                    words.finish().expect("finished");
                    assert!(words.file.is_none() || words.bytes() == 0, "all is in the file");
                }
                for (start, len) in [(0, 10_000), (0, 0), (9_999, 1), (123, 4_567), (4_999, 2), (9_990, 10)] {
                    let mut out = vec![0; len];
                    words.read(start, &mut out).expect("read");
                    assert!(out.iter().copied().eq(start as u32..start as u32 + len as u32), "{limit}: {start} {len}");
                }
            }
            assert_eq!(words.file.is_some(), limit < 10_000);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0, "the files have no names");
    }
}
