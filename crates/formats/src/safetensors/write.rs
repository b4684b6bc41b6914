//! Writes safetensors files.
//!
//! Invariant: what is written is what [`super::SafetensorsFile`] accepts, tensors aligned to their element size (the
//! widest first, then by name, as the reference implementation orders them), and it appears under its name only when
//! it is complete and on disk.

use super::header::{HEADER_LIMIT_BYTES, stored_name};
use crate::FormatsError;
use crate::atomic::write_atomic_with;
use remat_tensor::{DType, Shape};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::io::Write;
use std::path::Path;

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

/// A tensor to be written whose bytes are made when it is its turn.
#[derive(Debug, Clone)]
pub struct TensorSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: &'a Shape,
}

/// Writes tensors atomically. Nothing is copied: bytes go from where they live to the file.
///
/// # Errors
/// A name given twice, bytes that do not match a shape; a file that cannot be written, e.g. because the disk is full:
/// nothing is left behind then, and a file that was there stays as it was.
pub fn write_safetensors(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    metadata: &[(&str, &str)],
) -> Result<(), FormatsError> {
    let specs: Vec<TensorSpec<'_>> =
        tensors.iter().map(|t| TensorSpec { name: t.name, dtype: t.dtype, shape: t.shape }).collect();
    write_safetensors_from(path, &specs, metadata, &mut |index, sink| sink(tensors[index].bytes))
}

/// As [`write_safetensors`], for tensors too large to be held together: `source` is called once per tensor, in file
/// order, with its index in `specs`, and hands the bytes to the sink it is given, in as many pieces as it likes.
///
/// # Errors
/// As [`write_safetensors`], and what `source` returns.
pub fn write_safetensors_from<E: From<FormatsError>>(
    path: &Path,
    specs: &[TensorSpec<'_>],
    metadata: &[(&str, &str)],
    source: &mut dyn FnMut(usize, &mut Sink<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let order = write_order(specs);
    let header = header(path, specs, &order, metadata)?;
    let failed = || FormatsError::not_written(path, "write the file");
    write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
        file.write_all(&header).map_err(failed())?;
        for &index in &order {
            let spec = &specs[index];
            let wanted = bytes_of(path, spec)?;
            let mut written = 0u64;
            source(index, &mut |piece| {
                written += piece.len() as u64;
                file.write_all(piece).map_err(failed())
            })?;
            if written != wanted {
                let problem =
                    format!("came with {written} bytes; {} of shape {} takes {wanted}", spec.dtype, spec.shape);
                return Err(FormatsError::tensor(path, spec.name, problem).into());
            }
        }
        Ok(())
    })
}

/// Takes the next bytes of a tensor.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), FormatsError> + 'a;

/// The header, padded with spaces so that the data begins at a multiple of 8.
/// The order in which tensors stand in a file, and are asked for when it is written: those of large elements first, so that each
/// begins at a multiple of its own, and by name.
pub fn write_order(specs: &[TensorSpec<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|&index| (Reverse(specs[index].dtype.element_bytes()), specs[index].name));
    order
}

fn header(
    path: &Path,
    specs: &[TensorSpec<'_>],
    order: &[usize],
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>, FormatsError> {
    let mut header = Map::new();
    let pairs: Map<String, Value> = metadata.iter().map(|(key, value)| (key.to_string(), (*value).into())).collect();
    header.insert("__metadata__".to_string(), Value::Object(pairs));
    let mut at = 0u64;
    for &index in order {
        let spec = &specs[index];
        let too_large = || FormatsError::tensor(path, spec.name, "does not fit a file");
        let end = at.checked_add(bytes_of(path, spec)?).ok_or_else(too_large)?;
        let (dtype, _) = stored_name(spec.dtype).ok_or_else(|| in_blocks(path, spec))?;
        let entry = json!({ "dtype": dtype, "shape": spec.shape.dims(), "data_offsets": [at, end] });
        if header.insert(spec.name.to_string(), entry).is_some() {
            return Err(FormatsError::tensor(path, spec.name, "would be written twice, or has a reserved name"));
        }
        at = end;
    }
    if metadata.is_empty() {
        header.remove("__metadata__");
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    if bytes.len() as u64 > HEADER_LIMIT_BYTES {
        let problem = format!("the header would take {} bytes, more than {HEADER_LIMIT_BYTES}", bytes.len());
        return Err(FormatsError::malformed(path, problem));
    }
    Ok(bytes)
}

fn bytes_of(path: &Path, spec: &TensorSpec<'_>) -> Result<u64, FormatsError> {
    let (_, element_bytes) = stored_name(spec.dtype).ok_or_else(|| in_blocks(path, spec))?;
    let bytes = spec.shape.checked_numel().and_then(|n| (n as u64).checked_mul(element_bytes));
    bytes.ok_or_else(|| FormatsError::tensor(path, spec.name, format!("of shape {} does not fit a file", spec.shape)))
}

fn in_blocks(path: &Path, spec: &TensorSpec<'_>) -> FormatsError {
    FormatsError::tensor(path, spec.name, format!("is {}, which a file holds in parts", spec.dtype))
}
