//! int8 as bitsandbytes stores it: codes in `X.weight`, a scale per row in `X.SCB`, and in `X.weight_format` the number of
//! the order they are in, which is 0, row by row, in every file since 0.43.

use super::part::{PartContent, QuantisedInfo, QuantisedPart};
use crate::{FormatsError, ModelFiles};
use remat_tensor::int8::Int8Layout;
use remat_tensor::{DType, QuantFormat, Shape};
use std::ops::Range;

/// Ends of the names of a layer's tensors.
const WEIGHT: &str = ".weight";
const SCALES: &str = ".SCB";
const ORDER: &str = ".weight_format";
/// Codes row by row.
const BY_ROWS: u8 = 0;

impl ModelFiles {
    /// What the files say of the weight `name`, if they hold it in int8. Whether scales are there is not looked at.
    ///
    /// # Errors
    /// Codes that are not in rows.
    pub(super) fn int8_info(&self, name: &str) -> Result<Option<QuantisedInfo>, FormatsError> {
        let Some(stored) = self.tensor_info(name).filter(|stored| stored.dtype == Some(DType::I8)) else {
            return Ok(None);
        };
        let shape = stored.shape.clone();
        if shape.len() != 2 || shape.contains(&0) {
            return Err(self.fault(name, &format!("has shape {shape} in int8; a weight has two axes")));
        }
        let order_name = beside(name, ORDER);
        if let Some(order) = self.tensor_info(&order_name) {
            let mut number = [BY_ROWS];
            let is_byte = order.bytes == 1;
            if is_byte {
                self.read_bytes_into(&order_name, &mut number)?;
            }
            if !is_byte || number != [BY_ROWS] {
                let problem = "says that codes are not in rows; quantise the model again with bitsandbytes of today";
                return Err(self.fault(&order_name, problem));
            }
        }
        Ok(Some(QuantisedInfo { shape, format: QuantFormat::Int8, offset: 0.0 }))
    }
}

/// The tensors of a weight that hold bytes of its layout.
pub(super) fn parts(name: &str, info: &QuantisedInfo) -> Vec<(String, Range<usize>)> {
    let layout = Int8Layout::new(&info.shape).expect("a tensor in a file has a size");
    vec![(name.to_string(), layout.codes), (beside(name, SCALES), layout.absmax)]
}

/// The tensors of a weight that is to be written.
pub(super) fn written_parts(name: &str, shape: &Shape) -> Vec<QuantisedPart> {
    let layout = Int8Layout::new(shape).expect("the size of a tensor in memory");
    let part = |name: String, dtype, shape: Shape, content| QuantisedPart { name, dtype, shape, content };
    vec![
        part(name.to_string(), DType::I8, shape.clone(), PartContent::Range(layout.codes)),
        part(beside(name, SCALES), DType::F32, Shape::from([shape.rows()]), PartContent::Range(layout.absmax)),
        part(beside(name, ORDER), DType::U8, Shape::default(), PartContent::Bytes(vec![BY_ROWS])),
    ]
}

/// As [`super::weight_of_part`].
pub(super) fn weight_of_part(name: &str) -> Option<String> {
    [SCALES, ORDER].iter().find_map(|end| name.strip_suffix(end)).map(|layer| format!("{layer}{WEIGHT}"))
}

/// The name of another tensor of a weight's layer.
fn beside(name: &str, end: &str) -> String {
    format!("{}{end}", name.strip_suffix(WEIGHT).unwrap_or(name))
}
