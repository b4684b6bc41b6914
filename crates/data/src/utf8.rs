//! UTF-8 in files: the mark that may stand before it, and the place where bytes are none. Invariant: no byte is replaced.

use crate::error::{DataError, RowPlace};

/// What some programs write before the text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of bytes that stand on a line.
pub(crate) fn utf8<'a>(bytes: &'a [u8], place: &RowPlace) -> Result<&'a str, DataError> {
    std::str::from_utf8(bytes)
        .map_err(|error| DataError::NotUtf8 { place: place.clone(), column: error.valid_up_to() + 1 })
}
