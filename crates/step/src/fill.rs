//! Contents for steps whose times are measured: numbers that kernels are as fast on as on a model's.
//!
//! Invariant: no number is denormal, infinite or not a number, and none becomes so in a few updates.

use remat_ir::{Graph, SourceRole};
use remat_plan::{Device, DeviceError, SourceWriter};
use remat_tensor::DType;

/// Elements that are written at a time.
const PIECE: usize = 1 << 14;

/// Every byte of a quantised weight: a code as any other, and four of them are the f32 0.0007.
const QUANTISED: u8 = 0x3a;

/// Small numbers of both signs in floats, one small number in quantised weights, the first update, everything else zero. Positions are counted up by
/// [`LoadedStep::count_positions`](crate::LoadedStep::count_positions).
///
/// # Errors
/// A source that the device does not have.
pub fn fill_with_small_numbers(device: &mut dyn Device, graph: &Graph) -> Result<(), DeviceError> {
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let source = device.known(value.storage, &value.name)?;
        let zero_at_first = match value.role {
            Some(SourceRole::Parameter(_, role)) => role.is_gradient() || role.is_moment(),
            _ => false,
        };
        let (elements, mut writer) = (value.ty.shape.numel(), SourceWriter::new(device, source));
        if value.ty.dtype.quant_format().is_some() {
            let bytes = value.ty.bytes();
            (0..bytes).step_by(PIECE).for_each(|first| writer.push(&vec![QUANTISED; PIECE.min(bytes - first)]));
            writer.end()?;
            continue;
        }
        let number = |index: usize| ((index * 37) % 97) as f32 * 6e-4 - 0.03;
        for first in (0..elements).step_by(PIECE) {
            let indices = first..(first + PIECE).min(elements);
            match value.ty.dtype {
                _ if zero_at_first => break,
                DType::F32 => writer.push(&indices.map(number).collect::<Vec<f32>>()),
                // The upper half of an f32 is the bf16 below it.
                DType::BF16 => writer.push(&indices.map(|i| (number(i).to_bits() >> 16) as u16).collect::<Vec<u16>>()),
                DType::I32 if value.role == Some(SourceRole::Scalar) => writer.push(&[1_i32]),
                _ => break,
            }
        }
        writer.end()?;
    }
    Ok(())
}
