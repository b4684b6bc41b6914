//! The archive of PTX: one module for each source file in `kernels`, each compressed by itself, in the binary.
//!
//! Format: entries, sorted by name: length of the name (u32, little-endian), the name, length of what follows (u32), the text as a
//! zlib stream. `cargo xtask ptx` writes it; the same sources and compiler give the same bytes. Invariant: a module is
//! decompressed when it is asked for, and no other.

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use std::io::{Read, Write};

/// The archive that is compiled in.
const EMBEDDED: &[u8] = include_bytes!("../kernels/ptx.zlib");

/// Modules that are still compressed.
#[derive(Debug, Clone)]
pub struct Archive<'a> {
    entries: Vec<(&'a str, &'a [u8])>,
}

impl Archive<'static> {
    /// The one that is compiled in.
    ///
    /// # Errors
    /// An archive that is broken, which is a fault of the build.
    pub fn embedded() -> Result<Self, String> {
        Archive::read(EMBEDDED)
    }
}

impl<'a> Archive<'a> {
    /// Finds the modules in what [`pack`] packed.
    ///
    /// # Errors
    /// Bytes that are no archive.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (mut rest, mut entries) = (bytes, Vec::new());
        while !rest.is_empty() {
            let name = std::str::from_utf8(part(&mut rest)?).map_err(|error| format!("{BROKEN}: {error}"))?;
            entries.push((name, part(&mut rest)?));
        }
        Ok(Archive { entries })
    }

    /// Names of the modules.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|&(name, _)| name)
    }

    /// The text of a module.
    ///
    /// # Errors
    /// No such module, or one that is broken.
    pub fn text(&self, name: &str) -> Result<String, String> {
        let found = self.entries.iter().find(|(known, _)| *known == name);
        let (_, packed) = found.ok_or_else(|| format!("the archive of kernels has no module {name}"))?;
        let mut text = String::new();
        let read = ZlibDecoder::new(*packed).read_to_string(&mut text);
        read.map_err(|error| format!("{BROKEN}, at module {name}: {error}"))?;
        Ok(text)
    }
}

const BROKEN: &str = "the archive of kernels is broken";

/// Packs modules, which must be sorted by name.
///
/// # Errors
/// A text that is too long.
pub fn pack(modules: &[(String, String)]) -> Result<Vec<u8>, String> {
    let mut archive = Vec::new();
    for (name, text) in modules {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        for part in [name.as_bytes(), &packed.map_err(|error| error.to_string())?] {
            let length = u32::try_from(part.len()).map_err(|_| "a module of more than 4 GiB".to_string())?;
            archive.extend_from_slice(&length.to_le_bytes());
            archive.extend_from_slice(part);
        }
    }
    Ok(archive)
}

/// The next part.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let broken = || format!("{BROKEN}: it ends within an entry");
    let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
    let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(broken)?;
    *rest = behind;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out() {
        let modules = [("a", "text"), ("b", "")].map(|(name, text)| (name.to_string(), text.to_string()));
        let packed = pack(&modules).expect("packs");
        let archive = Archive::read(&packed).expect("whole");
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((archive.text("a"), archive.text("b")), (Ok("text".to_string()), Ok(String::new())));
        assert!(archive.text("c").is_err());
        assert!(Archive::read(&packed[..packed.len() - 6]).is_err());
        let mut broken = packed.clone();
        broken[10] ^= 0xff;
        assert!(Archive::read(&broken).and_then(|archive| archive.text("a")).is_err());
    }

    #[test]
    fn the_archive_is_small_and_for_the_oldest_driver() {
        const MOST_BYTES: usize = 3 << 20;
        assert!(EMBEDDED.len() <= MOST_BYTES, "{} bytes", EMBEDDED.len());
        let archive = Archive::embedded().expect("whole");
        assert!(archive.names().count() > 50);
        for name in archive.names() {
            let text = archive.text(name).expect("whole");
            assert!(text.contains("\n.version 7.0\n.target sm_80\n"), "{name} is not for sm_80 in PTX 7.0");
        }
    }
}
