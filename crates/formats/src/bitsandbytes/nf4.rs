//! 4-bit weights as bitsandbytes stores them: a tensor `X` of codes with its scales, maps and settings in tensors named
//! `X.absmax`, `X.quant_map`, `X.nested_absmax`, `X.nested_quant_map` and `X.quant_state.bitsandbytes__nf4`, the last one
//! JSON in bytes. Look next at `remat_tensor::nf4` for what the parts mean.

use super::part::{PartContent, QuantisedInfo, QuantisedPart};
use crate::error::excerpt;
use crate::{FormatsError, ModelFiles};
use remat_tensor::nf4::{BLOCK, NESTED_BLOCK, Nf4Layout, Nf4View, ScaleKind};
use remat_tensor::{DType, QuantFormat, Shape};
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
    /// What the settings say of the weight `name`, if the files hold it in 4 bits. Whether its parts are there is not
    /// looked at.
    ///
    /// # Errors
    /// Settings other than NF4 in blocks of 64 with scales in blocks of 256.
    pub(super) fn nf4_info(&self, name: &str) -> Result<Option<QuantisedInfo>, FormatsError> {
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
        let info = QuantisedInfo { shape: Shape::new(state.shape), format: QuantFormat::Nf4(kind), offset };
        if info.shape.contains(&0) || info.format.bytes(&info.shape).is_none() {
            return refuse("has a shape that no tensor can have");
        }
        Ok(Some(info))
    }
}

/// As [`super::weight_of_part`].
pub(super) fn weight_of_part(name: &str) -> Option<String> {
    let ends = [NESTED_ABSMAX, NESTED_MAP, ABSMAX, MAP, STATE, OTHER_STATE];
    ends.iter().find_map(|end| name.strip_suffix(end)).map(str::to_string)
}

fn layout_of(info: &QuantisedInfo, kind: ScaleKind) -> Nf4Layout {
    Nf4Layout::new(info.shape.numel(), kind).expect("`nf4_info` checked the size")
}

/// Puts the mean of the scales, which the settings hold, into a weight's bytes.
pub(super) fn write_offset(info: &QuantisedInfo, kind: ScaleKind, write: &mut dyn FnMut(usize, &[u8])) {
    if kind == ScaleKind::Nested {
        write(layout_of(info, kind).offset.start, &info.offset.to_le_bytes());
    }
}

/// The tensors of a weight that hold bytes of its layout.
pub(super) fn parts(name: &str, info: &QuantisedInfo, kind: ScaleKind) -> Vec<(String, Range<usize>)> {
    let layout = layout_of(info, kind);
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

/// The tensors of a doubly quantised weight that is to be written. Scales of scales, offset and maps are kept.
pub(super) fn written_parts(
    name: &str,
    shape: &Shape,
    kind: ScaleKind,
    dtype: DType,
    tensor: &[u8],
) -> Vec<QuantisedPart> {
    assert_eq!(kind, ScaleKind::Nested, "single scales are read but not written");
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
    let part = |end: &str, dtype, elements: usize, content| QuantisedPart {
        name: format!("{name}{end}"),
        dtype,
        shape: Shape::from([elements]),
        content,
    };
    let floats = |range: &Range<usize>| PartContent::Bytes(tensor[range.clone()].to_vec());
    let mut codes = part("", DType::U8, 0, PartContent::Range(layout.codes.clone()));
    codes.shape = Shape::from([layout.codes.len(), 1]);
    vec![
        codes,
        part(ABSMAX, DType::U8, layout.absmax.len(), PartContent::Range(layout.absmax.clone())),
        part(MAP, DType::F32, layout.map.len() / 4, floats(&layout.map)),
        part(NESTED_ABSMAX, DType::F32, layout.nested_absmax.len() / 4, floats(&layout.nested_absmax)),
        part(NESTED_MAP, DType::F32, layout.nested_map.len() / 4, floats(&layout.nested_map)),
        part(STATE, DType::U8, state.len(), PartContent::Bytes(state)),
    ]
}
