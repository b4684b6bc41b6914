//! The JSON header of a safetensors file, parsed and checked.
//!
//! Invariant: in a header that [`parse`] accepts no name occurs twice, every tensor's shape and dtype take exactly the
//! bytes it claims, and the tensors tile the rest of the file: no overlap, no hole, no byte left. The memory taken is
//! within a small factor of the header's length: entries are parsed as what they are, not as a tree of JSON values.

use crate::error::excerpt;
use crate::json::{UniqueMap, insert_new};
use remat_tensor::{DType, Shape};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Headers above this size are refused by the reference implementation, too.
pub(super) const HEADER_LIMIT_BYTES: u64 = 100_000_000;
/// More axes than PyTorch or NumPy can make.
const MOST_AXES: usize = 64;

/// What a file says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type, `None` for one that is not computed with here (`I64`, `BOOL`, …).
    pub dtype: Option<DType>,
    /// The element type's name in the file.
    pub stored: String,
    /// Dimensions, outermost first; their product fits a `usize`.
    pub shape: Shape,
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, TensorInfo>,
    pub metadata: BTreeMap<String, String>,
}

/// Parses a header. `data_start` is the file position behind it, `file_bytes` the file's size. The error is a phrase.
pub(super) fn parse(bytes: &[u8], data_start: u64, file_bytes: u64) -> Result<Header, String> {
    if bytes.first() != Some(&b'{') {
        return Err("the header does not start with '{'".to_string());
    }
    let text = str::from_utf8(bytes)
        .map_err(|error| format!("the header is not UTF-8 text: byte {} begins no character", error.valid_up_to()))?;
    let raw: RawHeader = serde_json::from_str(text).map_err(|error| format!("header: {error}"))?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in raw.entries {
        let info = tensor(entry, data_start).map_err(|problem| format!("tensor {:?}: {problem}", excerpt(&name)))?;
        tensors.insert(name, info);
    }
    tile(&tensors, data_start, file_bytes)?;
    Ok(Header { tensors, metadata: raw.metadata })
}

/// The header as JSON has it.
struct RawHeader {
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Dims,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { entries: BTreeMap::new(), metadata: BTreeMap::new() };
                let mut metadata_seen = false;
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        header.metadata = map.next_value::<UniqueMap<String>>()?.0;
                        std::mem::replace(&mut metadata_seen, true).then_some(name)
                    } else {
                        insert_new(&mut header.entries, name, map.next_value()?)
                    };
                    if let Some(name) = twice {
                        return Err(A::Error::custom(format!("{:?} occurs twice", excerpt(&name))));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The sizes of a shape, bounded in number.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Dims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(size) = list.next_element()? {
                    if dims.len() == MOST_AXES {
                        return Err(A::Error::custom(format!("a shape has more than {MOST_AXES} axes")));
                    }
                    dims.push(size);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

fn tensor(entry: Entry, data_start: u64) -> Result<TensorInfo, String> {
    let Entry { dtype: stored, shape, data_offsets: (begin, end) } = entry;
    let shape = Shape::new(shape.0);
    let bytes = end.checked_sub(begin).ok_or("\"data_offsets\" end before they begin")?;
    let elements =
        shape.checked_numel().ok_or_else(|| format!("shape {shape} has more elements than can be counted"))?;
    let (dtype, bits) = element(&stored);
    if let Some(bits) = bits {
        let wanted = (elements as u64).checked_mul(bits).filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8);
        if wanted != Some(bytes) {
            return Err(format!("shape {shape} of {stored} does not take {bytes} bytes"));
        }
    }
    let offset = data_start.checked_add(begin).ok_or("\"data_offsets\" overflow")?;
    offset.checked_add(bytes).ok_or("\"data_offsets\" overflow")?;
    Ok(TensorInfo { dtype, stored, shape, offset, bytes })
}

/// Our dtype, if there is one, and the size in bits, if the specification has the name. A name it does not have yet
/// is no error by itself: only who reads that tensor has to know what it means.
fn element(stored: &str) -> (Option<DType>, Option<u64>) {
    let (dtype, bits) = match stored {
        "F32" => (Some(DType::F32), 32),
        "F16" => (Some(DType::F16), 16),
        "BF16" => (Some(DType::BF16), 16),
        "I32" => (Some(DType::I32), 32),
        "U32" => (Some(DType::U32), 32),
        "U8" => (Some(DType::U8), 8),
        "I8" => (Some(DType::I8), 8),
        "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => (None, 8),
        "I16" | "U16" => (None, 16),
        "F64" | "I64" | "U64" | "C64" => (None, 64),
        "F4" => (None, 4),
        "F6_E2M3" | "F6_E3M2" => (None, 6),
        _ => return (None, None),
    };
    (dtype, Some(bits))
}

/// The name of a dtype in a header, and the size of an element; `None` for quantised types, which are stored in parts.
pub(super) fn stored_name(dtype: DType) -> Option<(&'static str, u64)> {
    match dtype {
        DType::F32 => Some(("F32", 4)),
        DType::BF16 => Some(("BF16", 2)),
        DType::F16 => Some(("F16", 2)),
        DType::I32 => Some(("I32", 4)),
        DType::U32 => Some(("U32", 4)),
        DType::U8 => Some(("U8", 1)),
        DType::I8 => Some(("I8", 1)),
        DType::Nf4 | DType::Nf4Single | DType::Int8 => None,
    }
}

/// Checks that the tensors cover the bytes from `start` to the end of the file, each byte once.
fn tile(tensors: &BTreeMap<String, TensorInfo>, start: u64, file_bytes: u64) -> Result<(), String> {
    let mut by_offset: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| (info.offset, info.bytes));
    let mut at = start;
    for (name, info) in by_offset {
        match info.offset.cmp(&at) {
            Ordering::Less => return Err(format!("tensor {:?} overlaps the one before it", excerpt(name))),
            Ordering::Greater => {
                let hole = info.offset - at;
                return Err(format!("there is a hole of {hole} bytes before tensor {:?}", excerpt(name)));
            }
            Ordering::Equal => at = info.offset + info.bytes,
        }
    }
    match at.cmp(&file_bytes) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(format!("the tensors need {at} bytes, the file has {file_bytes}, it is truncated")),
        Ordering::Less => Err(format!("{} bytes follow the last tensor", file_bytes - at)),
    }
}
