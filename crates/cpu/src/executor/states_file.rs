//! The file of states that are not resident: read, updated and written in every step.
//!
//! Invariants: it has no name and is reserved whole; blocks that are all zero are not stored but known, so that gradients and
//! moments that are zero cost no disk; whatever passes goes through the buffer that the caller counts, a state's own blocks
//! and no others', so that states can be written side by side. Look next at `uncached_file`.

use super::reserved_file::{nameless_file, refusal, reserve};
use super::uncached_file::{BLOCK_BYTES, UncachedFile};
use remat_plan::DeviceError;
use std::io;
use std::path::Path;

/// An open file of states.
pub(super) struct StatesFile {
    file: UncachedFile,
    bytes: u64,
    /// A bit for each block: whether it is in the file, and not all zero.
    stored: Vec<u64>,
}

impl StatesFile {
    /// Reserves a file of so many bytes in a folder: zeros.
    ///
    /// # Errors
    /// A folder that cannot be written to, or has no room.
    pub(super) fn reserved(folder: &Path, bytes: u64) -> Result<Self, DeviceError> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES as u64);
        let file = nameless_file(folder).and_then(|file| reserve(&file, bytes).map(|()| file));
        let file = UncachedFile::to_write(file.map_err(|error| refusal(folder, bytes, &error))?);
        let blocks = (bytes / BLOCK_BYTES as u64).div_ceil(64) as usize;
        Ok(StatesFile { file, bytes, stored: vec![0; blocks] })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn is_stored(&self, block: u64) -> bool {
        self.stored[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    fn set_stored(&mut self, block: u64, is_stored: bool) {
        let bit = 1 << (block % 64);
        let word = &mut self.stored[(block / 64) as usize];
        if is_stored { *word |= bit } else { *word &= !bit }
    }

    /// Fills a buffer with whole blocks from `at` on: reads those that are stored, as many as lie side by side at once.
    fn fill(&self, blocks: &mut [u8], at: u64) -> io::Result<()> {
        let first = at / BLOCK_BYTES as u64;
        let count = blocks.len() / BLOCK_BYTES;
        let mut index = 0;
        while index < count {
            let is_stored = self.is_stored(first + index as u64);
            let alike = (index..count).take_while(|&other| self.is_stored(first + other as u64) == is_stored).count();
            let run = &mut blocks[index * BLOCK_BYTES..(index + alike) * BLOCK_BYTES];
            match is_stored {
                true => self.file.read_blocks(at + (index * BLOCK_BYTES) as u64, run)?,
                false => run.fill(0),
            }
            index += alike;
        }
        Ok(())
    }

    /// Writes whole blocks from `at` on but for those that are all zero.
    fn store(&mut self, blocks: &[u8], at: u64) -> io::Result<()> {
        let first = at / BLOCK_BYTES as u64;
        let count = blocks.len() / BLOCK_BYTES;
        let block = |index: usize| &blocks[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
        let mut index = 0;
        while index < count {
            let zero = is_zero(block(index));
            let alike = 1 + (index + 1..count).take_while(|&other| is_zero(block(other)) == zero).count();
            if !zero {
                let run = &blocks[index * BLOCK_BYTES..(index + alike) * BLOCK_BYTES];
                self.file.write_blocks(at + (index * BLOCK_BYTES) as u64, run)?;
            }
            (index..index + alike).for_each(|index| self.set_stored(first + index as u64, !zero));
            index += alike;
        }
        Ok(())
    }

    /// Reads bytes from `at` on, through `bounce`: whole blocks that begin at a page.
    pub(super) fn read(&self, bounce: &mut [u8], at: u64, into: &mut [u8]) -> io::Result<()> {
        for Piece { from, skip, part } in self.pieces(bounce.len(), at, into.len())? {
            let blocks = &mut bounce[..(skip + part.len()).next_multiple_of(BLOCK_BYTES)];
            self.fill(blocks, from)?;
            into[part.clone()].copy_from_slice(&blocks[skip..skip + part.len()]);
        }
        Ok(())
    }

    /// Writes bytes from `at` on, in the same way. What else is in their first and last block stays.
    pub(super) fn write(&mut self, bounce: &mut [u8], at: u64, bytes: &[u8]) -> io::Result<()> {
        for Piece { from, skip, part } in self.pieces(bounce.len(), at, bytes.len())? {
            let end = skip + part.len();
            let blocks = &mut bounce[..end.next_multiple_of(BLOCK_BYTES)];
            let last = blocks.len() - BLOCK_BYTES;
            if skip > 0 {
                self.fill(&mut blocks[..BLOCK_BYTES], from)?;
            }
            if end < blocks.len() && (last > 0 || skip == 0) {
                self.fill(&mut blocks[last..], from + last as u64)?;
            }
            blocks[skip..end].copy_from_slice(&bytes[part]);
            self.store(blocks, from)?;
        }
        Ok(())
    }

    /// The pieces of a range that fit a buffer of so many bytes.
    fn pieces(&self, buffer_bytes: usize, at: u64, bytes: usize) -> io::Result<impl Iterator<Item = Piece> + use<>> {
        if at + bytes as u64 > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        Ok(std::iter::from_fn(move || {
            let begin = at + done as u64;
            let skip = (begin % BLOCK_BYTES as u64) as usize;
            let length = (bytes - done).min(buffer_bytes - skip);
            let part = done..done + length;
            done += length;
            (length > 0).then_some(Piece { from: begin - skip as u64, skip, part })
        }))
    }
}

/// A piece of a range.
struct Piece {
    /// Where its blocks begin, and how many bytes of these come before it.
    from: u64,
    skip: usize,
    /// Which part of the range it is.
    part: std::ops::Range<usize>,
}

fn is_zero(block: &[u8]) -> bool {
    let (words, tail) = block.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && tail.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::super::memory::Region;
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_its_range_and_zeros_are_not_stored() {
        let mut bounce = Region::new(4 * BLOCK_BYTES, "a test").expect("memory");
        let length = 70_001;
        let mut file = StatesFile::reserved(&std::env::temp_dir(), length as u64).expect("room");
        let mut expected = vec![0_u8; length];
        let bytes: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        let zeros = vec![0_u8; length];
        let ranges = [(0, 10), (5000, 40_000), (4095, 4097), (8192, 20_480), (69_990, 70_001), (12_288, 12_288)];
        for (source, (from, to)) in [&bytes, &zeros].into_iter().flat_map(|source| ranges.map(|range| (source, range)))
        {
            file.write(bounce.bytes_mut(), from as u64, &source[from..to]).expect("written");
            expected[from..to].copy_from_slice(&source[from..to]);
            let mut read = vec![1; length];
            file.read(bounce.bytes_mut(), 0, &mut read).expect("read");
            assert!(read == expected, "{from} to {to}");
            let mut some = vec![1; to - from];
            file.read(bounce.bytes_mut(), from as u64, &mut some).expect("read");
            assert!(some == expected[from..to], "{from} to {to} alone");
        }
        file.write(bounce.bytes_mut(), 0, &zeros).expect("written");
        assert!(file.stored.iter().all(|word| *word == 0), "zeros are known, not stored");
        let past_end = file.read(bounce.bytes_mut(), file.bytes(), &mut [0; 1]).expect_err("there is nothing");
        assert_eq!(past_end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
