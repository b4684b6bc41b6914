//! safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without holes.
//! Specification: github.com/huggingface/safetensors.
//!
//! Invariant: only the header is held; tensors are read at their offsets, through one bounded buffer unless they are
//! wanted whole. A file is refused at `open` if its header is not what the specification says (`header`), so that
//! reading a tensor cannot leave the file. `write` makes such files.

mod header;
mod write;

pub use header::TensorInfo;
pub use write::{NamedTensor, TensorSpec, write_order, write_safetensors, write_safetensors_from};

use crate::error::excerpt;
use crate::{FormatsError, HeldFile, SettingName, foreign_weights};
use bytemuck::Pod;
use half::{bf16, f16};
use header::{HEADER_LIMIT_BYTES, Header};
use remat_tensor::{DType, HostTensor, NotFinite, TensorData, first_not_finite};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Size of the buffer that tensors are streamed through; a multiple of every element size.
const CHUNK_BYTES: usize = 1 << 20;

/// An open file whose header has been read and checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    held: HeldFile,
    header: Header,
}

impl SafetensorsFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// A file that is missing, truncated, too long, or whose header breaks the specification.
    pub fn open(path: &Path) -> Result<Self, FormatsError> {
        let held = HeldFile::open(path, "check the path, or download the file again")?;
        let length = held.bytes();
        let bad = |problem: String| {
            FormatsError::malformed(path, format!("not a valid safetensors file: {problem}; download or save it again"))
        };
        if length < 8 {
            return Err(bad(format!("{length} bytes are too few for a header, the file is truncated")));
        }
        let mut prefix = [0u8; 9];
        let first = &mut prefix[..length.min(9) as usize];
        held.read_exact_at(first, 0).map_err(FormatsError::io(path, "read the header"))?;
        let header_bytes = first.first_chunk().map_or(0, |&eight| u64::from_le_bytes(eight));
        // Its own header begins with a brace, whatever the bytes of its length look like.
        let other = if first.get(8) == Some(&b'{') { None } else { foreign_weights::told_by(first) };
        if let Some(other) = other {
            return Err(FormatsError::malformed(path, format!("is no safetensors file: {other}")));
        }
        if header_bytes > HEADER_LIMIT_BYTES {
            return Err(bad(format!("the header length {header_bytes} exceeds {HEADER_LIMIT_BYTES}")));
        }
        if header_bytes > length - 8 {
            return Err(bad(format!("the header is {header_bytes} bytes, the file {length}, it is truncated")));
        }
        let mut bytes = vec![0; header_bytes as usize];
        held.read_exact_at(&mut bytes, 8).map_err(FormatsError::io(path, "read the header"))?;
        let header = header::parse(&bytes, 8 + header_bytes, length).map_err(bad)?;
        Ok(SafetensorsFile { path: path.to_path_buf(), held, header })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// The file itself, held open.
    pub fn held(&self) -> &HeldFile {
        &self.held
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// The header's `__metadata__`; empty if it has none.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// What the file says of a tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// Streams a tensor's bytes, of whatever dtype, through one bounded buffer; pieces hold whole elements.
    ///
    /// # Errors
    /// A tensor that is not there, a read that fails, or what `sink` returns.
    pub fn read_chunks(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        self.read_chunks_while(name, &mut |piece| sink(piece).map(|()| true))
    }

    /// As [`SafetensorsFile::read_chunks`], until `sink` says that it has enough.
    fn read_chunks_while(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<bool, FormatsError>,
    ) -> Result<(), FormatsError> {
        let info = self.info(name)?;
        let mut buffer = vec![0; CHUNK_BYTES.min(info.bytes as usize)];
        let mut at = info.offset;
        let end = info.offset + info.bytes;
        while at < end {
            let piece = &mut buffer[..CHUNK_BYTES.min((end - at) as usize)];
            self.read_at(name, piece, at)?;
            at += piece.len() as u64;
            if !sink(piece)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads a whole tensor, straight into its place.
    ///
    /// # Errors
    /// A tensor that is not there, of a dtype not computed with here, or too large for the memory there is.
    pub fn read(&self, name: &str) -> Result<HostTensor, FormatsError> {
        let info = self.info(name)?;
        let dtype = info.dtype.ok_or_else(|| self.unreadable(name, info))?;
        let data = match dtype {
            DType::F32 => TensorData::F32(self.elements(name, info)?),
            DType::BF16 => TensorData::BF16(self.elements(name, info)?),
            DType::F16 => TensorData::F16(self.elements(name, info)?),
            DType::I32 => TensorData::I32(self.elements(name, info)?),
            DType::U32 => TensorData::U32(self.elements(name, info)?),
            DType::U8 => TensorData::U8(self.elements(name, info)?),
            DType::I8 => TensorData::I8(self.elements(name, info)?),
            DType::Nf4 | DType::Nf4Single | DType::Int8 => return Err(self.unreadable(name, info)),
        };
        Ok(HostTensor::new(info.shape.clone(), data))
    }

    /// Reads an f32, f16 or bf16 tensor into `target`, widened to f32, without holding it twice.
    ///
    /// # Errors
    /// A tensor that is not there, of another size or dtype, or with an element that is infinite or no number.
    pub fn read_as_f32_into(&self, name: &str, target: &mut [f32]) -> Result<(), FormatsError> {
        let (info, dtype) = (self.info(name)?, self.float(name)?);
        let element_bytes = dtype.element_bytes().ok_or_else(|| self.unreadable(name, info))?;
        if info.bytes != (target.len() * element_bytes) as u64 {
            let problem = format!("has {} elements, {} are wanted", info.bytes / element_bytes as u64, target.len());
            return Err(FormatsError::tensor(&self.path, name, problem));
        }
        let mut at = 0;
        self.read_chunks_as_f32(name, &mut |piece| {
            target[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })
    }

    /// Streams an f32, f16 or bf16 tensor through one bounded buffer, widened to f32.
    ///
    /// # Errors
    /// A tensor that is not there or of another dtype, a read that fails, or what `sink` returns.
    pub fn read_chunks_as_f32(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let dtype = self.float(name)?;
        let mut numbers: Vec<f32> = Vec::new();
        self.read_finite(name, dtype, &mut |piece| {
            match dtype {
                DType::BF16 => converted(piece, &mut numbers, |bytes| bf16::from_le_bytes(bytes).to_f32()),
                DType::F16 => converted(piece, &mut numbers, |bytes| f16::from_le_bytes(bytes).to_f32()),
                _ => converted(piece, &mut numbers, f32::from_le_bytes),
            }
            sink(&numbers)
        })
    }

    /// Streams an f32, f16 or bf16 tensor through one bounded buffer: bf16 as it is, the others rounded to nearest, ties
    /// to even.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read_chunks_as_f32`].
    pub fn read_chunks_as_bf16(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[bf16]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let dtype = self.float(name)?;
        let mut numbers: Vec<bf16> = Vec::new();
        let mut at = 0;
        self.read_finite(name, dtype, &mut |piece| {
            match dtype {
                DType::BF16 => converted(piece, &mut numbers, bf16::from_le_bytes),
                DType::F16 => {
                    converted(piece, &mut numbers, |bytes| bf16::from_f32(f16::from_le_bytes(bytes).to_f32()));
                }
                _ => converted(piece, &mut numbers, |bytes| bf16::from_f32(f32::from_le_bytes(bytes))),
            }
            // The largest f32 numbers are nearer to infinity than to the largest bf16.
            if dtype == DType::F32
                && let Some(index) = numbers.iter().position(|number| !number.is_finite())
            {
                let (index, precision) = (at + index, SettingName("precision"));
                let problem =
                    format!("holds a number at element {index} that is too large for bf16; use {precision} f32");
                return Err(FormatsError::tensor(&self.path, name, problem));
            }
            at += numbers.len();
            sink(&numbers)
        })
    }

    /// As [`SafetensorsFile::read_chunks`], for numbers that are all finite.
    fn read_finite(
        &self,
        name: &str,
        dtype: DType,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let element_bytes = dtype.element_bytes().unwrap_or(1);
        let mut at = 0;
        self.read_chunks(name, &mut |piece| {
            if let Some(NotFinite { index, value }) = first_not_finite(dtype, piece) {
                let (path, tensor) = (self.path.clone(), excerpt(name));
                return Err(FormatsError::NotANumber { path, tensor, index: at + index, value });
            }
            at += piece.len() / element_bytes;
            sink(piece)
        })
    }

    /// The dtype of a tensor of numbers that can be computed with.
    fn float(&self, name: &str) -> Result<DType, FormatsError> {
        let info = self.info(name)?;
        info.dtype.filter(|dtype| dtype.is_float()).ok_or_else(|| self.unreadable(name, info))
    }

    fn elements<T: Pod>(&self, name: &str, info: &TensorInfo) -> Result<Vec<T>, FormatsError> {
        let count = info.bytes as usize / size_of::<T>();
        let mut elements: Vec<T> = Vec::new();
        // A sparse file may claim terabytes at no cost; running out of memory would abort the process.
        if elements.try_reserve_exact(count).is_err() {
            let problem = format!("takes {} bytes, more than there is memory", info.bytes);
            return Err(FormatsError::tensor(&self.path, name, problem));
        }
        elements.resize(count, T::zeroed());
        self.read_at(name, bytemuck::cast_slice_mut(&mut elements), info.offset)?;
        Ok(elements)
    }

    /// Whether two tensors, of this file and of `other`, are of one shape and dtype and hold the same bytes.
    pub(crate) fn holds_the_same(
        &self,
        name: &str,
        other: &SafetensorsFile,
        other_name: &str,
    ) -> Result<bool, FormatsError> {
        let (info, other_info) = (self.info(name)?, other.info(other_name)?);
        if (&info.stored, &info.shape) != (&other_info.stored, &other_info.shape) {
            return Ok(false);
        }
        let mut at = other_info.offset;
        let mut theirs = Vec::new();
        let mut same = true;
        self.read_chunks_while(name, &mut |piece| {
            theirs.resize(piece.len(), 0);
            other.read_at(other_name, &mut theirs, at)?;
            at += piece.len() as u64;
            same = theirs == piece;
            Ok(same)
        })?;
        Ok(same)
    }

    fn read_at(&self, name: &str, target: &mut [u8], offset: u64) -> Result<(), FormatsError> {
        self.held.read_exact_at(target, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => FormatsError::tensor(
                &self.path,
                name,
                "lies beyond the end of the file, which was cut since it was opened",
            ),
            _ => FormatsError::io(&self.path, "read a tensor")(error),
        })
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, FormatsError> {
        self.tensor_info(name).ok_or_else(|| FormatsError::tensor(&self.path, name, "is not in the file"))
    }

    fn unreadable(&self, name: &str, info: &TensorInfo) -> FormatsError {
        let problem = format!("is stored as {:?}; convert it to F32, F16 or BF16", excerpt(&info.stored));
        FormatsError::tensor(&self.path, name, problem)
    }
}

fn converted<const N: usize, T>(bytes: &[u8], numbers: &mut Vec<T>, one: impl Fn([u8; N]) -> T) {
    numbers.clear();
    numbers.extend(bytes.as_chunks::<N>().0.iter().map(|&element| one(element)));
}
