//! The header of a GGUF file, versions 2 and 3: what it says of a model, and its tensors. Nothing of the data is read.
//!
//! Invariant: whatever a file says, no more is held of it than `MOST_HELD_BYTES`, and reading ends with the file.

use super::element::TYPES;
use crate::FormatsError;
use crate::error::excerpt;
use crate::json::open_regular;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Keys, names and texts of one file together; vocabularies, the largest part, are counted and not held.
const MOST_HELD_BYTES: u64 = 64 << 20;
/// Lists within lists.
const DEEPEST: usize = 4;
const MOST_AXES: u32 = 8;

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufHeader {
    /// Version of the layout.
    pub version: u32,
    /// What it says of the model, by key.
    pub entries: BTreeMap<String, GgufValue>,
    /// Its tensors, in file order.
    pub tensors: Vec<GgufTensor>,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(String),
    /// A list of so many values, which are not held.
    List(u64),
}

/// What a file says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// The element type's name, or its number where that is not known.
    pub stored: String,
    /// Sizes, the outermost first.
    pub shape: Vec<u64>,
    /// Bytes it takes; `None` where the element type is not known.
    pub bytes: Option<u64>,
}

impl GgufHeader {
    /// Whether a file begins as GGUF does.
    pub fn is_in(path: &Path) -> bool {
        let mut magic = [0; 4];
        crate::files::open_file(path).is_ok_and(|(mut file, _)| file.read_exact(&mut magic).is_ok() && magic == MAGIC)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// A file that cannot be read or is no GGUF file of a known version; one that contradicts itself.
    pub fn read(path: &Path) -> Result<Self, FormatsError> {
        let (file, bytes) = open_regular(path, "give the path of a GGUF file")?;
        let mut reader = Reader { path: path.to_path_buf(), file: BufReader::new(file), left: bytes, held: 0 };
        if reader.array::<4>()? != MAGIC {
            return Err(reader.bad("does not begin with GGUF"));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            let remedy = "only versions 2 and 3 of little-endian machines are read; convert the model again";
            return Err(reader.bad(&format!("is GGUF of version {version}: {remedy}")));
        }
        let (tensors, entries) = (reader.u64()?, reader.u64()?);
        let mut header = GgufHeader { version, entries: BTreeMap::new(), tensors: Vec::new() };
        for _ in 0..entries {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, DEEPEST)?;
            if header.entries.insert(key.clone(), value).is_some() {
                return Err(reader.bad(&format!("has the key {:?} twice", excerpt(&key))));
            }
        }
        for _ in 0..tensors {
            header.tensors.push(reader.tensor()?);
        }
        Ok(header)
    }
}

struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes of the file that are not read yet.
    left: u64,
    /// Bytes of texts that are held.
    held: u64,
}

impl Reader {
    fn bad(&self, problem: &str) -> FormatsError {
        FormatsError::malformed(&self.path, problem)
    }

    fn take(&mut self, bytes: u64) -> Result<(), FormatsError> {
        self.left =
            self.left.checked_sub(bytes).ok_or_else(|| self.bad("ends within its header; download it again"))?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatsError> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(FormatsError::io(&self.path, "read the file"))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, FormatsError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, FormatsError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), FormatsError> {
        self.take(bytes)?;
        let copied = std::io::copy(&mut self.file.by_ref().take(bytes), &mut std::io::sink());
        match copied.map_err(FormatsError::io(&self.path, "read the file"))? {
            copied if copied == bytes => Ok(()),
            _ => Err(self.bad("ends within its header; download it again")),
        }
    }

    fn hold(&mut self, bytes: u64) -> Result<(), FormatsError> {
        self.held = self.held.saturating_add(bytes);
        match self.held > MOST_HELD_BYTES {
            true => Err(self.bad(&format!("has names and texts of more than {MOST_HELD_BYTES} bytes"))),
            false => Ok(()),
        }
    }

    fn text(&mut self) -> Result<String, FormatsError> {
        let length = self.u64()?;
        self.take(length)?;
        // What is held beside the text, so that many empty ones are bounded, too.
        self.hold(length.saturating_add(64))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(FormatsError::io(&self.path, "read the file"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn value(&mut self, kind: u32, deeper: usize) -> Result<GgufValue, FormatsError> {
        Ok(match kind {
            0 => GgufValue::Integer(i128::from(self.array::<1>()?[0])),
            1 => GgufValue::Integer(i128::from(i8::from_le_bytes(self.array()?))),
            2 => GgufValue::Integer(i128::from(u16::from_le_bytes(self.array()?))),
            3 => GgufValue::Integer(i128::from(i16::from_le_bytes(self.array()?))),
            4 => GgufValue::Integer(i128::from(self.u32()?)),
            5 => GgufValue::Integer(i128::from(i32::from_le_bytes(self.array()?))),
            6 => GgufValue::Real(f64::from(f32::from_le_bytes(self.array()?))),
            7 => GgufValue::Flag(self.array::<1>()?[0] != 0),
            8 => GgufValue::Text(self.text()?),
            9 => GgufValue::List(self.list(deeper)?),
            10 => GgufValue::Integer(i128::from(self.u64()?)),
            11 => GgufValue::Integer(i128::from(i64::from_le_bytes(self.array()?))),
            12 => GgufValue::Real(f64::from_le_bytes(self.array()?)),
            other => return Err(self.bad(&format!("has a value of the type {other}, which is not known"))),
        })
    }

    /// Passes over the values of a list and says how many they are.
    fn list(&mut self, deeper: usize) -> Result<u64, FormatsError> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 | 9 => 0,
            other => return Err(self.bad(&format!("has a list of the type {other}, which is not known"))),
        };
        if size > 0 {
            let bytes = count.checked_mul(size).ok_or_else(|| self.bad("has a list that is longer than itself"))?;
            return self.skip(bytes).map(|()| count);
        }
        let deeper = deeper.checked_sub(1).ok_or_else(|| self.bad("has lists within lists without end"))?;
        for _ in 0..count {
            // Each takes eight bytes of the file at least, so this ends with it.
            if kind == 8 {
                let length = self.u64()?;
                self.skip(length)?;
            } else {
                self.list(deeper)?;
            }
        }
        Ok(count)
    }

    fn tensor(&mut self) -> Result<GgufTensor, FormatsError> {
        let name = self.text()?;
        let axes = self.u32()?;
        if axes > MOST_AXES {
            return Err(self.bad(&format!("has a tensor {:?} of {axes} axes", excerpt(&name))));
        }
        let mut shape = (0..axes).map(|_| self.u64()).collect::<Result<Vec<u64>, _>>()?;
        shape.reverse();
        let kind = self.u32()?;
        self.u64()?;
        let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
        let elements = elements.ok_or_else(|| self.bad(&format!("has a tensor {:?} of no size", excerpt(&name))))?;
        let known = TYPES.iter().find(|(number, ..)| *number == kind);
        let bytes = known.and_then(|&(_, _, block, bytes)| elements.div_ceil(block).checked_mul(bytes));
        let stored = known.map_or_else(|| format!("type {kind}"), |(_, name, ..)| (*name).to_string());
        Ok(GgufTensor { name, stored, shape, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// A file of two tensors that says a few things.
    fn file() -> Vec<u8> {
        let number = |number: u32| number.to_le_bytes().to_vec();
        let long = |number: u64| number.to_le_bytes().to_vec();
        let list = [text("tokens"), number(9), number(8), long(2), text("a"), text("bc")].concat();
        [
            b"GGUF".to_vec(),
            number(3),
            long(2),
            long(4),
            [text("general.architecture"), number(8), text("llama")].concat(),
            [text("block_count"), number(4), number(2)].concat(),
            [text("eps"), number(6), 0.5_f32.to_le_bytes().to_vec()].concat(),
            list,
            [text("token_embd.weight"), number(2), long(64), long(10), number(8), long(0)].concat(),
            [text("output_norm.weight"), number(1), long(64), number(0), long(680)].concat(),
        ]
        .concat()
    }

    fn read(bytes: &[u8]) -> Result<GgufHeader, FormatsError> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).expect("written");
        GgufHeader::read(&path)
    }

    #[test]
    fn a_header_is_read() {
        let header = read(&file()).expect("a header");
        assert_eq!(header.entries["general.architecture"], GgufValue::Text("llama".to_string()));
        assert_eq!(header.entries["block_count"], GgufValue::Integer(2));
        assert_eq!((&header.entries["eps"], &header.entries["tokens"]), (&GgufValue::Real(0.5), &GgufValue::List(2)));
        let [embedding, norm] = &header.tensors[..] else { panic!("{:?}", header.tensors) };
        assert_eq!(
            (embedding.stored.as_str(), &embedding.shape[..], embedding.bytes),
            ("Q8_0", &[10, 64][..], Some(680))
        );
        assert_eq!((norm.name.as_str(), norm.bytes), ("output_norm.weight", Some(256)));
    }

    #[test]
    fn what_is_cut_or_lies_is_an_error_and_takes_no_memory() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut to {length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 9, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                // It may still be a header; what counts is that this ends.
                drop(read(&bytes));
            }
        }
        let mut nested = [&whole[..8], &0_u64.to_le_bytes(), &1_u64.to_le_bytes(), &text("k")].concat();
        nested.extend(9_u32.to_le_bytes());
        for _ in 0..100 {
            nested.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
        }
        assert!(read(&nested).expect_err("endless").to_string().contains("lists within lists"));
    }
}
