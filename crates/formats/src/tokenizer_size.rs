//! What reading a `tokenizer.json` takes, by its text alone.
//!
//! The library builds maps of all tokens and merges, and what it takes at most follows their number: beside the text itself,
//! 230 to 255 bytes for each string of it (vocabularies of 32 and 128 thousand tokens, merges as texts and as pairs, the
//! file indented or not). Invariant: the same file gives the same number, on every machine.

use crate::FormatsError;
use crate::json::open_regular;
use std::io::Read;
use std::path::Path;

/// A little above what was measured.
const BYTES_PER_STRING: usize = 265;

/// Words whose tokens the library keeps while it encodes.
const CACHE_BYTES: usize = 3 << 20;

/// Bytes that reading the tokenizer of a model folder takes at most, and encoding with it; 0 if it has none.
///
/// # Errors
/// A file that cannot be read.
pub fn tokenizer_reading_bytes(folder: &Path) -> Result<usize, FormatsError> {
    let path = folder.join("tokenizer.json");
    let mut file = match open_regular(&path, "") {
        Err(FormatsError::Missing { .. }) => return Ok(0),
        opened => opened?.0,
    };
    let mut buffer = vec![0; 1 << 16];
    let (mut quotes, mut bytes) = (0, 0);
    loop {
        let read = file.read(&mut buffer).map_err(FormatsError::io(&path, "read the file"))?;
        if read == 0 {
            return Ok(quotes / 2 * BYTES_PER_STRING + bytes + CACHE_BYTES);
        }
        // A byte at a time, summed in bytes, so that many are compared at once. 255 fit a byte's sum.
        let count = |piece: &[u8]| usize::from(piece.iter().map(|&byte| u8::from(byte == b'"')).sum::<u8>());
        bytes += read;
        quotes += buffer[..read].chunks(255).map(count).sum::<usize>();
    }
}
