//! Reads the weight of a linear back from the device that holds it, as numbers, in strips of rows.
//!
//! Invariant: the numbers are those that the model computes with: decoded, and rounded where that is asked for. A strip of
//! them is held, and the codes of one quantised weight.

use crate::{ModelError, Precision};
use half::bf16;
use remat_formats::ModelConfig;
use remat_ir::Storage;
use remat_plan::{Device, SourceId};
use remat_tensor::{DType, QuantisedView, Shape};

/// Elements of a strip, at least a row.
const STRIP_ELEMENTS: usize = 1 << 18;

/// A linear's weight on a device.
pub(super) struct WeightReader {
    source: SourceId,
    shape: Shape,
    dtype: DType,
    /// Codes of a quantised weight.
    codes: Vec<u8>,
    /// Whether numbers that are decoded are rounded to bf16.
    rounds: bool,
    /// Whether rows are of inputs and not of outputs.
    pub in_out: bool,
}

impl WeightReader {
    /// Of a frozen weight by its name.
    ///
    /// # Errors
    /// A weight that the device does not have; a device that fails.
    pub fn of(
        (base, precision): (&ModelConfig, Precision),
        name: &str,
        device: &dyn Device,
    ) -> Result<Self, ModelError> {
        let source = device.known(Storage::Weight, name)?;
        let ty = device.source_type(source);
        let (dtype, shape) = (ty.dtype, ty.shape.clone());
        let is_quantised = dtype.quant_format().is_some();
        let codes = if is_quantised { device.read_all(source)? } else { Vec::new() };
        let in_out = base.block.weights_in_out && !is_quantised;
        Ok(WeightReader { source, shape, dtype, codes, rounds: precision == Precision::Bf16, in_out })
    }

    /// Rows and columns as they are stored.
    pub fn stored(&self) -> (usize, usize) {
        (self.shape[0], self.shape[1])
    }

    /// Widths of the linear's operand and result.
    pub fn fans(&self) -> (usize, usize) {
        let (rows, columns) = self.stored();
        if self.in_out { (rows, columns) } else { (columns, rows) }
    }

    /// Hands over whole rows in order, with the number of the first.
    ///
    /// # Errors
    /// A device that fails.
    pub fn strips(&self, device: &dyn Device, sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), ModelError> {
        let (rows, columns) = self.stored();
        let strip = (STRIP_ELEMENTS / columns).clamp(1, rows);
        let (mut numbers, mut bytes) = (vec![0.0; strip * columns], Vec::new());
        for first in (0..rows).step_by(strip) {
            let count = strip.min(rows - first) * columns;
            let numbers = &mut numbers[..count];
            match self.dtype.quant_format() {
                Some(format) => {
                    QuantisedView::new(format, &self.shape, &self.codes).decode(first * columns, numbers);
                    if self.rounds {
                        numbers.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
                    }
                }
                None if self.dtype == DType::BF16 => {
                    bytes.resize(count * size_of::<bf16>(), 0);
                    device.read(self.source, first * columns * size_of::<bf16>(), &mut bytes)?;
                    let pairs = bytes.as_chunks::<2>().0;
                    numbers.iter_mut().zip(pairs).for_each(|(x, pair)| *x = bf16::from_le_bytes(*pair).to_f32());
                }
                None => {
                    let at = first * columns * size_of::<f32>();
                    device.read(self.source, at, bytemuck::cast_slice_mut(numbers))?;
                }
            }
            sink(first, numbers);
        }
        Ok(())
    }

    /// The norms of the rows of the weight [out, in], of squares that are added in f64.
    ///
    /// # Errors
    /// A device that fails.
    pub fn output_norms(&self, device: &dyn Device) -> Result<Vec<f64>, ModelError> {
        let columns = self.stored().1;
        let mut squares = vec![0.0f64; self.fans().1];
        let square = |x: f32| f64::from(x) * f64::from(x);
        self.strips(device, &mut |first, numbers| {
            for (row, numbers) in numbers.chunks(columns).enumerate() {
                match self.in_out {
                    true => squares.iter_mut().zip(numbers).for_each(|(sum, &x)| *sum += square(x)),
                    false => squares[first + row] = numbers.iter().map(|&x| square(x)).sum(),
                }
            }
        })?;
        Ok(squares.into_iter().map(f64::sqrt).collect())
    }
}
