//! Quantised weights, whatever their format: codes of a few bits for groups of elements that share a scale, in one run of
//! bytes.
//!
//! Invariant: format and shape fix the number of bytes and where each part lies in them. What differs by format is in
//! `nf4` and `int8`; whoever stores, plans or loads weights needs nothing but this. Look next at `quantiser.rs`.

mod format;
mod quantiser;

pub use format::QuantFormat;
pub use quantiser::{NotFinite, QuantisedTensor, Quantiser, into_bytes};

use crate::Shape;
use crate::int8::Int8View;
use crate::nf4::Nf4View;

/// A quantised weight in memory, to be read.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum QuantisedView<'a> {
    Nf4(Nf4View<'a>),
    Int8(Int8View<'a>),
}

impl<'a> QuantisedView<'a> {
    /// The weight of this shape in these bytes. Panics if their number is not the format's.
    pub fn new(format: QuantFormat, shape: &Shape, bytes: &'a [u8]) -> Self {
        match format {
            QuantFormat::Nf4(kind) => QuantisedView::Nf4(Nf4View::new(shape.numel(), kind, bytes)),
            QuantFormat::Int8 => QuantisedView::Int8(Int8View::new(shape, bytes)),
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        match self {
            QuantisedView::Nf4(view) => view.elements(),
            QuantisedView::Int8(view) => view.elements(),
        }
    }

    /// Decodes the elements from `first` on. Panics beyond the end.
    pub fn decode(&self, first: usize, to: &mut [f32]) {
        match self {
            QuantisedView::Nf4(view) => view.decode(first, to),
            QuantisedView::Int8(view) => view.decode(first, to),
        }
    }
}

/// An owned quantised weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedData {
    format: QuantFormat,
    shape: Shape,
    bytes: Vec<u8>,
}

impl QuantisedData {
    /// A weight in these bytes; `None` if their number is not the format's.
    pub fn from_bytes(format: QuantFormat, shape: impl Into<Shape>, bytes: Vec<u8>) -> Option<Self> {
        let shape = shape.into();
        (format.bytes(&shape)? == bytes.len()).then_some(QuantisedData { format, shape, bytes })
    }

    /// Quantises numbers, as many as the shape has elements.
    ///
    /// # Errors
    /// A number that is infinite or not a number.
    pub fn quantise(format: QuantFormat, shape: impl Into<Shape>, values: &[f32]) -> Result<Self, NotFinite> {
        let shape = shape.into();
        let mut bytes = vec![0; format.bytes(&shape).expect("not much larger than the values themselves")];
        let (mut quantiser, mut write) = (Quantiser::new(), into_bytes(&mut bytes));
        let mut tensor = quantiser.begin(format, &shape, &mut write);
        tensor.push(values)?;
        tensor.finish();
        drop(write);
        Ok(QuantisedData { format, shape, bytes })
    }

    /// To be read.
    pub fn view(&self) -> QuantisedView<'_> {
        QuantisedView::new(self.format, &self.shape, &self.bytes)
    }

    /// All elements.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.numel()];
        self.view().decode(0, &mut values);
        values
    }

    /// How it is stored.
    pub fn format(&self) -> QuantFormat {
        self.format
    }

    /// Its dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes as executors hold them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
