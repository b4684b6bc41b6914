//! safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without holes.
//! Specification: github.com/huggingface/safetensors.
//!
//! Invariant: only the header is held; tensors are streamed through one bounded buffer. A file is refused at `open` if its
//! header is not what the specification says, so that reading a tensor cannot leave the file.

use crate::FormatsError;
use crate::atomic::write_atomic_with;
use half::{bf16, f16};
use remat_tensor::{DType, HostTensor, Shape};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Headers above this size are refused by the reference implementation, too.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;
/// Size of the buffer that tensors are streamed through.
const CHUNK_BYTES: usize = 1 << 20;

/// What a file says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type, `None` for one that is not computed with here (`I64`, `BOOL`, …).
    pub dtype: Option<DType>,
    /// The element type's name in the file.
    pub stored: String,
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// An open file whose header has been read and checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor to be written; the bytes are borrowed from wherever they live.
#[derive(Debug, Clone)]
pub struct NamedTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: &'a Shape,
    /// Little-endian elements.
    pub bytes: &'a [u8],
}

impl SafetensorsFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// A file that is missing, truncated, too long, or whose header breaks the specification.
    pub fn open(path: &Path) -> Result<Self, FormatsError> {
        let mut file = File::open(path).map_err(FormatsError::io(path, "open the file"))?;
        let length = file.metadata().map_err(FormatsError::io(path, "read the file's size"))?.len();
        let bad = |problem: String| FormatsError::malformed(path, format!("not a valid safetensors file: {problem}"));
        let mut prefix = [0u8; 8];
        if length < 8 {
            return Err(bad(format!("{length} bytes are too few for a header; the file is truncated")));
        }
        file.read_exact(&mut prefix).map_err(FormatsError::io(path, "read the header"))?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > HEADER_LIMIT_BYTES {
            return Err(bad(format!("the header length {header_bytes} exceeds {HEADER_LIMIT_BYTES}")));
        }
        if header_bytes > length - 8 {
            return Err(bad(format!("the header is {header_bytes} bytes, the file {length}; it is truncated")));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(FormatsError::io(path, "read the header"))?;
        if header.first() != Some(&b'{') {
            return Err(bad("the header does not start with '{'".to_string()));
        }
        let Header(entries) = serde_json::from_slice(&header).map_err(|error| bad(format!("header: {error}")))?;
        let tensors = tensors(entries, 8 + header_bytes, length).map_err(bad)?;
        Ok(SafetensorsFile { path: path.to_path_buf(), file, tensors })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the file says of a tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Streams a tensor's bytes through one bounded buffer; pieces hold whole elements.
    ///
    /// # Errors
    /// A tensor that is not there, a read that fails, or what `sink` returns.
    pub fn read_chunks(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let info = self.info(name)?;
        let mut buffer = vec![0; CHUNK_BYTES.min(info.bytes as usize)];
        let mut at = info.offset;
        let end = info.offset + info.bytes;
        while at < end {
            let piece = &mut buffer[..CHUNK_BYTES.min((end - at) as usize)];
            self.file.read_exact_at(piece, at).map_err(FormatsError::io(&self.path, "read a tensor"))?;
            sink(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads a whole tensor.
    ///
    /// # Errors
    /// A tensor that is not there or of a dtype not computed with here.
    pub fn read(&self, name: &str) -> Result<HostTensor, FormatsError> {
        let info = self.info(name)?;
        let dtype = info.dtype.ok_or_else(|| self.unreadable(name, info))?;
        let mut bytes = Vec::with_capacity(info.bytes as usize);
        self.read_chunks(name, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        let tensor = HostTensor::from_le_bytes(info.shape.clone(), dtype, &bytes);
        tensor.ok_or_else(|| FormatsError::tensor(&self.path, name, "has bytes that do not match its shape"))
    }

    /// Reads an f32, f16 or bf16 tensor into `target`, widened to f32, without holding it twice.
    ///
    /// # Errors
    /// A tensor that is not there, of another size or dtype.
    pub fn read_as_f32_into(&self, name: &str, target: &mut [f32]) -> Result<(), FormatsError> {
        let info = self.info(name)?;
        let dtype = info.dtype.filter(|dtype| dtype.is_float()).ok_or_else(|| self.unreadable(name, info))?;
        if info.bytes != (target.len() * dtype.bytes()) as u64 {
            let problem = format!("has {} elements, {} are wanted", info.bytes / dtype.bytes() as u64, target.len());
            return Err(FormatsError::tensor(&self.path, name, problem));
        }
        let mut at = 0;
        self.read_chunks(name, &mut |piece| {
            let count = piece.len() / dtype.bytes();
            let out = &mut target[at..at + count];
            match dtype {
                DType::BF16 => widen(piece, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
                DType::F16 => widen(piece, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
                _ => widen(piece, out, f32::from_le_bytes),
            }
            at += count;
            Ok(())
        })
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, FormatsError> {
        self.tensors.get(name).ok_or_else(|| FormatsError::tensor(&self.path, name, "is not in the file"))
    }

    fn unreadable(&self, name: &str, info: &TensorInfo) -> FormatsError {
        let problem = format!("is stored as {}; convert it to F32, F16 or BF16", info.stored);
        FormatsError::tensor(&self.path, name, problem)
    }
}

fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], one: impl Fn([u8; N]) -> f32) {
    for (x, element) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *x = one(*element);
    }
}

/// The header's entries in file order; a duplicate key is an error, which a plain map would hide.
struct Header(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, serde_json::Value>()? {
                    entries.push(entry);
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn tensors(
    entries: Vec<(String, serde_json::Value)>,
    data_start: u64,
    file_bytes: u64,
) -> Result<BTreeMap<String, TensorInfo>, String> {
    let mut tensors = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for (name, entry) in entries {
        if !seen.insert(name.clone()) {
            return Err(format!("\"{name}\" occurs twice"));
        }
        if name == "__metadata__" {
            let strings = entry.as_object().is_some_and(|map| map.values().all(serde_json::Value::is_string));
            if !strings {
                return Err("\"__metadata__\" must map strings to strings".to_string());
            }
            continue;
        }
        let info = tensor(&entry, data_start).map_err(|problem| format!("tensor \"{name}\": {problem}"))?;
        tensors.insert(name, info);
    }
    contiguous(&tensors, data_start, file_bytes)?;
    Ok(tensors)
}

fn tensor(entry: &serde_json::Value, data_start: u64) -> Result<TensorInfo, String> {
    let stored = entry["dtype"].as_str().ok_or("\"dtype\" is missing")?.to_string();
    let dims = entry["shape"].as_array().ok_or("\"shape\" is missing")?;
    let dims: Option<Vec<usize>> = dims.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok())).collect();
    let shape = Shape::new(dims.ok_or("\"shape\" must hold sizes")?);
    let offsets = entry["data_offsets"].as_array().filter(|offsets| offsets.len() == 2);
    let offsets =
        offsets.and_then(|o| Some((o[0].as_u64()?, o[1].as_u64()?))).ok_or("\"data_offsets\" must be two sizes")?;
    let bytes = offsets.1.checked_sub(offsets.0).ok_or("\"data_offsets\" end before they begin")?;
    let (dtype, bits) = element(&stored).ok_or_else(|| format!("unknown dtype \"{stored}\""))?;
    let wanted = shape.checked_numel().and_then(|n| (n as u64).checked_mul(bits)).map(|bits| bits.div_ceil(8));
    if wanted != Some(bytes) {
        return Err(format!("shape {shape} of {stored} does not take {bytes} bytes"));
    }
    let offset = data_start.checked_add(offsets.0).ok_or("\"data_offsets\" overflow")?;
    offset.checked_add(bytes).ok_or("\"data_offsets\" overflow")?;
    Ok(TensorInfo { dtype, stored, shape, offset, bytes })
}

/// Our dtype, if there is one, and the size in bits, of a dtype name of the specification.
fn element(stored: &str) -> Option<(Option<DType>, u64)> {
    Some(match stored {
        "F32" => (Some(DType::F32), 32),
        "F16" => (Some(DType::F16), 16),
        "BF16" => (Some(DType::BF16), 16),
        "I32" => (Some(DType::I32), 32),
        "U32" => (Some(DType::U32), 32),
        "U8" => (Some(DType::U8), 8),
        "BOOL" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => (None, 8),
        "I16" | "U16" => (None, 16),
        "F64" | "I64" | "U64" | "C64" => (None, 64),
        "F4" => (None, 4),
        _ => return None,
    })
}

fn contiguous(tensors: &BTreeMap<String, TensorInfo>, start: u64, file_bytes: u64) -> Result<(), String> {
    let mut by_offset: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| (info.offset, info.bytes));
    let mut at = start;
    for (name, info) in by_offset {
        if info.offset < at {
            return Err(format!("tensor \"{name}\" overlaps the one before it"));
        }
        if info.offset > at {
            return Err(format!("there is a hole of {} bytes before tensor \"{name}\"", info.offset - at));
        }
        at = info.offset + info.bytes;
    }
    match at.cmp(&file_bytes) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => {
            Err(format!("the tensors need {at} bytes, the file has {file_bytes}; it is truncated"))
        }
        std::cmp::Ordering::Less => Err(format!("{} bytes follow the last tensor", file_bytes - at)),
    }
}

/// Writes tensors, sorted by name, atomically. Nothing is copied: bytes go from where they live to the file.
///
/// # Errors
/// A file that cannot be written, e.g. because the disk is full; nothing is left behind then.
pub fn write_safetensors(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    metadata: &[(&str, &str)],
) -> Result<(), FormatsError> {
    let mut sorted: Vec<&NamedTensor<'_>> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.name);
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let pairs = metadata.iter().map(|(k, v)| (k.to_string(), serde_json::Value::from(*v)));
        header.insert("__metadata__".to_string(), serde_json::Value::Object(pairs.collect()));
    }
    let mut at = 0u64;
    for tensor in &sorted {
        let end = at + tensor.bytes.len() as u64;
        let stored = match tensor.dtype {
            DType::F32 => "F32",
            DType::BF16 => "BF16",
            DType::F16 => "F16",
            DType::I32 => "I32",
            DType::U32 => "U32",
            DType::U8 => "U8",
        };
        let entry = serde_json::json!({ "dtype": stored, "shape": tensor.shape.dims(), "data_offsets": [at, end] });
        if header.insert(tensor.name.to_string(), entry).is_some() {
            return Err(FormatsError::tensor(path, tensor.name, "would be written twice"));
        }
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| FormatsError::malformed(path, e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        sorted.iter().try_for_each(|tensor| file.write_all(tensor.bytes))
    })
}
