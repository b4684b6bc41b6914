//! The hash of a file of which all that matters was read. Invariant: it is that of every byte of the file.

use crate::error::{DataError, io_error};
use crate::row::parser::RowParser;
use remat_formats::HashingReader;
use std::io::Read;
use std::path::Path;

/// Reads what is left of a file, such as Arrow's list of its batches, and notes the hash of the whole.
pub(super) fn hash_rest(
    path: &Path,
    mut file: HashingReader<impl Read>,
    rows: &mut RowParser<'_, '_>,
) -> Result<(), DataError> {
    std::io::copy(&mut file, &mut std::io::sink()).map_err(|source| io_error(path, source))?;
    rows.hashed(&file.sha256());
    Ok(())
}
