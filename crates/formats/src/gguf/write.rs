//! Writes GGUF files, version 3, little-endian.
//!
//! Invariant: what is written is what [`super::GgufHeader`] reads, tensors in the order given, each at a multiple of 32
//! bytes with as many bytes as its shape takes; nothing of a tensor is held beyond the piece that its source hands over.

use super::element::GgufElement;
use super::header::MAGIC;
use crate::FormatsError;
use remat_tensor::Shape;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;
/// ggml's limit, with the zero byte behind a name.
const LONGEST_NAME: usize = 63;

/// The value of a key that is written.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum GgufEntry {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
    Floats(Vec<f32>),
}

/// A tensor that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufSpec {
    /// Its name.
    pub name: String,
    /// Element type; rows fill its blocks.
    pub element: GgufElement,
    /// Sizes, the outermost first.
    pub shape: Shape,
}

/// A file that is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufFile {
    /// What it says, in the order that it is written.
    pub entries: Vec<(String, GgufEntry)>,
    /// Its tensors.
    pub tensors: Vec<GgufSpec>,
}

/// Takes the next bytes of a tensor.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), FormatsError> + 'a;

impl GgufFile {
    /// Size of the file; `path` is for messages.
    ///
    /// # Errors
    /// As [`GgufFile::write`], of what is known before any tensor is.
    pub fn bytes(&self, path: &Path) -> Result<u64, FormatsError> {
        let header = self.header(path)?.len() as u64;
        let sizes = self.tensors.iter().map(|spec| bytes_of(path, spec));
        let all = sizes.map(|bytes| Ok(bytes?.next_multiple_of(ALIGNMENT))).sum::<Result<u64, FormatsError>>()?;
        Ok(header + all)
    }

    /// Writes the file: `source` is called once per tensor, in order, with its number, and hands the bytes to the sink it is
    /// given, in as many pieces as it likes. `path` is for messages.
    ///
    /// # Errors
    /// A key or name given twice or too long, tensors that come with another number of bytes, what `source` returns; a
    /// file that cannot be written.
    pub fn write(
        &self,
        path: &Path,
        file: &mut dyn Write,
        source: &mut dyn FnMut(usize, &mut Sink<'_>) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let failed = || FormatsError::not_written(path, "write the file");
        file.write_all(&self.header(path)?).map_err(failed())?;
        for (index, spec) in self.tensors.iter().enumerate() {
            let wanted = bytes_of(path, spec)?;
            let mut written = 0;
            source(index, &mut |piece| {
                written += piece.len() as u64;
                file.write_all(piece).map_err(failed())
            })?;
            if written != wanted {
                let (element, shape) = (spec.element.name(), &spec.shape);
                let problem = format!("came with {written} bytes; {element} of shape {shape} takes {wanted}");
                return Err(FormatsError::tensor(path, &spec.name, problem));
            }
            let padding = [0; ALIGNMENT as usize];
            file.write_all(&padding[..padding_of(wanted)]).map_err(failed())?;
        }
        Ok(())
    }

    /// All that stands before the data.
    fn header(&self, path: &Path) -> Result<Vec<u8>, FormatsError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        let mut seen = BTreeSet::new();
        for (key, entry) in &self.entries {
            if !seen.insert(key) {
                return Err(FormatsError::key(path, key, "would be written twice"));
            }
            text(&mut bytes, key);
            entry.push(&mut bytes);
        }
        let (mut at, mut names) = (0_u64, BTreeSet::new());
        for spec in &self.tensors {
            if spec.name.len() > LONGEST_NAME || !names.insert(&spec.name) {
                return Err(FormatsError::tensor(path, &spec.name, "has a name that is too long, or is there twice"));
            }
            text(&mut bytes, &spec.name);
            bytes.extend((spec.shape.len() as u32).to_le_bytes());
            spec.shape.iter().rev().for_each(|&size| bytes.extend((size as u64).to_le_bytes()));
            bytes.extend(spec.element.number().to_le_bytes());
            bytes.extend(at.to_le_bytes());
            let end = at.checked_add(bytes_of(path, spec)?).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
            at = end.ok_or_else(|| FormatsError::tensor(path, &spec.name, "does not fit a file"))?;
        }
        let padded = bytes.len() + padding_of(bytes.len() as u64);
        bytes.resize(padded, 0);
        Ok(bytes)
    }
}

impl GgufEntry {
    /// Appends the type and the value.
    fn push(&self, bytes: &mut Vec<u8>) {
        let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
        let list = |bytes: &mut Vec<u8>, of: u32, count: usize| {
            kind(bytes, 9);
            kind(bytes, of);
            bytes.extend((count as u64).to_le_bytes());
        };
        match self {
            GgufEntry::U32(number) => {
                kind(bytes, 4);
                bytes.extend(number.to_le_bytes());
            }
            GgufEntry::F32(number) => {
                kind(bytes, 6);
                bytes.extend(number.to_le_bytes());
            }
            GgufEntry::Flag(flag) => {
                kind(bytes, 7);
                bytes.push(u8::from(*flag));
            }
            GgufEntry::Text(words) => {
                kind(bytes, 8);
                text(bytes, words);
            }
            GgufEntry::Texts(texts) => {
                list(bytes, 8, texts.len());
                texts.iter().for_each(|words| text(bytes, words));
            }
            GgufEntry::Numbers(numbers) => {
                list(bytes, 5, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
            GgufEntry::Floats(numbers) => {
                list(bytes, 6, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
        }
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Zero bytes behind so many.
fn padding_of(bytes: u64) -> usize {
    (bytes.next_multiple_of(ALIGNMENT) - bytes) as usize
}

fn bytes_of(path: &Path, spec: &GgufSpec) -> Result<u64, FormatsError> {
    let bytes = spec.shape.checked_numel().and_then(|elements| spec.element.bytes(elements as u64));
    bytes.ok_or_else(|| FormatsError::tensor(path, &spec.name, "does not fit a file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GgufHeader, GgufValue};

    fn spec(name: &str, element: GgufElement, shape: &[usize]) -> GgufSpec {
        GgufSpec { name: name.to_string(), element, shape: Shape::from(shape) }
    }

    fn written(file: &GgufFile, source: impl Fn(usize) -> Vec<u8>) -> Result<Vec<u8>, FormatsError> {
        let mut bytes = Vec::new();
        file.write(Path::new("a.gguf"), &mut bytes, &mut |index, sink| sink(&source(index)))?;
        Ok(bytes)
    }

    #[test]
    fn what_is_written_is_read_and_aligned() {
        let entry = |key: &str, entry| (key.to_string(), entry);
        let file = GgufFile {
            entries: vec![
                entry("general.architecture", GgufEntry::Text("llama".to_string())),
                entry("llama.block_count", GgufEntry::U32(2)),
                entry("eps", GgufEntry::F32(0.5)),
                entry("add", GgufEntry::Flag(true)),
                entry("tokens", GgufEntry::Texts(vec!["a".to_string(), "bc".to_string()])),
                entry("types", GgufEntry::Numbers(vec![1, 3])),
                entry("scores", GgufEntry::Floats(vec![-1.0])),
            ],
            tensors: vec![spec("a.weight", GgufElement::F32, &[3]), spec("b.weight", GgufElement::F16, &[2, 3])],
        };
        let bytes = written(&file, |index| vec![1 + index as u8; 12]).expect("written");
        assert_eq!(file.bytes(Path::new("a.gguf")).expect("known"), bytes.len() as u64);
        // Each tensor takes 12 bytes and 20 of padding.
        let data = bytes.len() - 64;
        assert!(data.is_multiple_of(32));
        assert_eq!((&bytes[data..data + 12], &bytes[data + 32..data + 44]), (&[1; 12][..], &[2; 12][..]));
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.gguf");
        std::fs::write(&path, &bytes).expect("written");
        let header = GgufHeader::read(&path).expect("a header");
        assert_eq!((header.version, header.tensors.len()), (3, 2));
        assert_eq!(header.entries["tokens"], GgufValue::List(2));
        assert_eq!(header.entries["add"], GgufValue::Flag(true));
        assert_eq!((header.tensors[1].stored.as_str(), &header.tensors[1].shape[..]), ("F16", &[2, 3][..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |name: &str| GgufFile { entries: Vec::new(), tensors: vec![spec(name, GgufElement::F32, &[1])] };
        let said = |file: &GgufFile, bytes: usize| written(file, |_| vec![0; bytes]).expect_err("refused").to_string();
        assert!(said(&one("a"), 8).contains("came with 8 bytes; F32 of shape [1] takes 4"));
        assert!(said(&one(&"a".repeat(64)), 4).contains("too long"));
        let twice = GgufFile {
            entries: vec![("k".to_string(), GgufEntry::Flag(true)); 2],
            tensors: vec![spec("a", GgufElement::F32, &[1])],
        };
        assert!(said(&twice, 4).contains("\"k\" would be written twice"));
    }
}
