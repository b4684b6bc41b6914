//! The archive of PTX: one module for each source file in `kernels`, compressed, in the binary.
//!
//! Format: a zlib stream of entries, sorted by name: length of the name (u32, little-endian), the name, length of the text
//! (u32), the text. `cargo xtask ptx` writes it; the same sources and compiler give the same bytes.

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use std::io::{Read, Write};

/// The archive that is compiled in.
const ARCHIVE: &[u8] = include_bytes!("../kernels/ptx.zlib");

/// Names and texts of the modules that are compiled in.
///
/// # Errors
/// An archive that is broken, which is a fault of the build.
pub fn embedded() -> Result<Vec<(String, String)>, String> {
    unpack(ARCHIVE)
}

/// Packs modules, which must be sorted by name.
///
/// # Errors
/// A text that is too long.
pub fn pack(modules: &[(String, String)]) -> Result<Vec<u8>, String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    for part in modules.iter().flat_map(|(name, text)| [name, text]) {
        let length = u32::try_from(part.len()).map_err(|_| "a module of more than 4 GiB".to_string())?;
        let written = encoder.write_all(&length.to_le_bytes()).and_then(|()| encoder.write_all(part.as_bytes()));
        written.map_err(|error| error.to_string())?;
    }
    encoder.finish().map_err(|error| error.to_string())
}

/// What [`pack`] packed.
///
/// # Errors
/// Bytes that are no archive.
pub fn unpack(archive: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(archive).read_to_end(&mut bytes).map_err(|error| format!("the archive of kernels: {error}"))?;
    let mut rest = bytes.as_slice();
    let mut modules = Vec::new();
    while !rest.is_empty() {
        modules.push((part(&mut rest)?, part(&mut rest)?));
    }
    Ok(modules)
}

fn part(rest: &mut &[u8]) -> Result<String, String> {
    let broken = || "the archive of kernels ends within an entry".to_string();
    let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
    let (text, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(broken)?;
    *rest = behind;
    String::from_utf8(text.to_vec()).map_err(|error| format!("the archive of kernels: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out() {
        let modules = [("a", "text"), ("b", "")].map(|(name, text)| (name.to_string(), text.to_string()));
        let packed = pack(&modules).expect("packs");
        assert_eq!(unpack(&packed), Ok(modules.to_vec()));
        assert!(unpack(&packed[..packed.len() - 6]).is_err());
    }

    #[test]
    fn the_archive_is_small_and_for_the_oldest_driver() {
        const MOST_BYTES: usize = 3 << 20;
        assert!(ARCHIVE.len() <= MOST_BYTES, "{} bytes", ARCHIVE.len());
        for (name, text) in embedded().expect("whole") {
            assert!(text.contains("\n.version 7.0\n.target sm_80\n"), "{name} is not for sm_80 in PTX 7.0");
        }
    }
}
