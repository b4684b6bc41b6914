//! 4-bit weights as bitsandbytes stores them: a tensor `X` of codes with its scales, maps and settings in tensors named
//! `X.absmax`, `X.quant_map`, `X.nested_absmax`, `X.nested_quant_map` and `X.quant_state.bitsandbytes__nf4`, the last one
//! JSON in bytes.
//!
//! Invariant: an [`Nf4Info`] describes parts that are all in the files with the sizes they must have, so that reading
//! cannot go wrong half-way. Look next at `remat_tensor::nf4` for what the parts mean.

use crate::error::excerpt;
use crate::{FormatsError, ModelFiles, SafetensorsFile};
use remat_tensor::nf4::{BLOCK, NESTED_BLOCK, Nf4Layout, Nf4View, ScaleKind};
use remat_tensor::{DType, Shape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Ends of the names of a weight's parts.
const ABSMAX: &str = ".absmax";
const MAP: &str = ".quant_map";
const NESTED_ABSMAX: &str = ".nested_absmax";
const NESTED_MAP: &str = ".nested_quant_map";
const STATE: &str = ".quant_state.bitsandbytes__nf4";
/// The same settings of a type that is not supported.
const OTHER_STATE: &str = ".quant_state.bitsandbytes__fp4";
/// Longest JSON of settings that is read.
const STATE_LIMIT_BYTES: u64 = 1 << 16;

/// What the files say of a 4-bit weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4Info {
    /// The weight's dimensions.
    pub shape: Shape,
    /// How its scales are stored.
    pub kind: ScaleKind,
    /// Mean of the scales; 0 for single scales.
    offset: f32,
}

impl Nf4Info {
    /// The dtype of the weight in memory.
    pub fn dtype(&self) -> DType {
        match self.kind {
            ScaleKind::Single => DType::Nf4Single,
            ScaleKind::Nested => DType::Nf4,
        }
    }
}

/// The JSON of `quant_state`.
#[derive(Debug, Serialize, Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nested_blocksize: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nested_dtype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nested_offset: Option<f64>,
}

impl ModelFiles {
    /// What the files say of the weight `name`, if they hold it in 4 bits.
    ///
    /// # Errors
    /// Settings other than NF4 in blocks of 64 with scales in blocks of 256; parts that are missing or of a wrong size.
    pub fn nf4_info(&self, name: &str) -> Result<Option<Nf4Info>, FormatsError> {
        if self.tensor_info(&format!("{name}{OTHER_STATE}")).is_some() {
            return Err(self.fault(name, "is stored as FP4, which is not supported; quantise the model to NF4"));
        }
        let state_name = format!("{name}{STATE}");
        let Some(info) = self.tensor_info(&state_name) else { return Ok(None) };
        if info.bytes > STATE_LIMIT_BYTES {
            return Err(self.fault(&state_name, "is too long for the settings of a quantised weight"));
        }
        let mut json = vec![0; info.bytes as usize];
        self.read_bytes_into(&state_name, &mut json)?;
        let state: QuantState = serde_json::from_slice(&json)
            .map_err(|error| self.fault(&state_name, &format!("does not hold the settings of a weight: {error}")))?;
        let refuse = |problem: &str| Err(self.fault(&state_name, problem));
        if state.quant_type != "nf4" || state.blocksize != BLOCK {
            let (kind, size) = (excerpt(&state.quant_type), state.blocksize);
            return refuse(&format!("says {kind:?} in blocks of {size}; supported is \"nf4\" in blocks of {BLOCK}"));
        }
        let (kind, offset) = match (state.nested_blocksize, state.nested_offset) {
            (None, None) => (ScaleKind::Single, 0.0),
            (Some(NESTED_BLOCK), Some(offset)) => (ScaleKind::Nested, offset as f32),
            _ => return refuse(&format!("has scales that are not nested in blocks of {NESTED_BLOCK} with an offset")),
        };
        let info = Nf4Info { shape: Shape::new(state.shape), kind, offset };
        let layout = info.shape.checked_numel().and_then(|elements| Nf4Layout::new(elements, kind));
        let Some(layout) = layout.filter(|layout| layout.elements > 0) else {
            return refuse("has a shape that no tensor can have");
        };
        for (part, range) in parts(name, &layout) {
            match self.tensor_info(&part) {
                None => return Err(self.fault(&part, "is missing: the 4-bit weight is incomplete")),
                Some(stored) if stored.bytes == range.len() as u64 => {}
                Some(stored) => {
                    let problem =
                        format!("has {} bytes; a weight of shape {} takes {}", stored.bytes, info.shape, range.len());
                    return Err(self.fault(&part, &problem));
                }
            }
        }
        Ok(Some(info))
    }

    /// Reads a 4-bit weight into `target`, laid out as [`Nf4Layout`] says, with the file's own maps.
    ///
    /// # Errors
    /// A read that fails.
    pub fn read_nf4_into(&self, name: &str, info: &Nf4Info, target: &mut [u8]) -> Result<(), FormatsError> {
        let layout = Nf4Layout::new(info.shape.numel(), info.kind).expect("`nf4_info` checked the size");
        for (part, range) in parts(name, &layout) {
            self.read_bytes_into(&part, &mut target[range])?;
        }
        if info.kind == ScaleKind::Nested {
            target[layout.offset].copy_from_slice(&info.offset.to_le_bytes());
        }
        Ok(())
    }

    fn read_bytes_into(&self, name: &str, target: &mut [u8]) -> Result<(), FormatsError> {
        let file: &SafetensorsFile = self.file_of(name)?;
        let mut at = 0;
        file.read_chunks(name, &mut |piece| {
            target[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })
    }

    fn fault(&self, name: &str, problem: &str) -> FormatsError {
        FormatsError::tensor(self.folder(), name, problem)
    }
}

/// The tensors of a weight that hold bytes of its layout.
fn parts(name: &str, layout: &Nf4Layout) -> Vec<(String, Range<usize>)> {
    let mut parts = vec![
        (name.to_string(), layout.codes.clone()),
        (format!("{name}{ABSMAX}"), layout.absmax.clone()),
        (format!("{name}{MAP}"), layout.map.clone()),
    ];
    if layout.kind == ScaleKind::Nested {
        parts.push((format!("{name}{NESTED_ABSMAX}"), layout.nested_absmax.clone()));
        parts.push((format!("{name}{NESTED_MAP}"), layout.nested_map.clone()));
    }
    parts
}

/// One tensor of a 4-bit weight that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4Part {
    /// Its name in the file.
    pub name: String,
    /// Its element type in the file.
    pub dtype: DType,
    /// Its shape in the file.
    pub shape: Shape,
    /// Its bytes.
    pub content: Nf4Content,
}

/// Where the bytes of a part come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Nf4Content {
    /// Known beforehand.
    Bytes(Vec<u8>),
    /// A range of the weight's bytes.
    Range(Range<usize>),
}

/// The tensors that hold a doubly quantised weight of this shape, whose elements were of `dtype`. `tensor` is the weight,
/// of which scales of scales, offset and maps are kept; codes and scales are named by their range alone.
pub fn nf4_parts(name: &str, shape: &Shape, dtype: DType, tensor: &[u8]) -> Vec<Nf4Part> {
    let layout = Nf4Layout::new(shape.numel(), ScaleKind::Nested).expect("the size of a tensor in memory");
    let offset = Nf4View::new(shape.numel(), ScaleKind::Nested, tensor).offset();
    let state = QuantState {
        quant_type: "nf4".to_string(),
        blocksize: BLOCK,
        dtype: match dtype {
            DType::BF16 => "bfloat16",
            DType::F16 => "float16",
            _ => "float32",
        }
        .to_string(),
        shape: shape.to_vec(),
        nested_blocksize: Some(NESTED_BLOCK),
        nested_dtype: Some("float32".to_string()),
        nested_offset: Some(f64::from(offset)),
    };
    let state = serde_json::to_vec(&state).expect("plain numbers and names");
    let part = |end: &str, dtype, elements: usize, content| Nf4Part {
        name: format!("{name}{end}"),
        dtype,
        shape: Shape::from([elements]),
        content,
    };
    let floats = |range: &Range<usize>| Nf4Content::Bytes(tensor[range.clone()].to_vec());
    let mut codes = part("", DType::U8, 0, Nf4Content::Range(layout.codes.clone()));
    codes.shape = Shape::from([layout.codes.len(), 1]);
    vec![
        codes,
        part(ABSMAX, DType::U8, layout.absmax.len(), Nf4Content::Range(layout.absmax.clone())),
        part(MAP, DType::F32, layout.map.len() / 4, floats(&layout.map)),
        part(NESTED_ABSMAX, DType::F32, layout.nested_absmax.len() / 4, floats(&layout.nested_absmax)),
        part(NESTED_MAP, DType::F32, layout.nested_map.len() / 4, floats(&layout.nested_map)),
        part(STATE, DType::U8, state.len(), Nf4Content::Bytes(state)),
    ]
}
