//! Weights as arguments: dense, or quantised with where the parts of the format lie. See kernels/weight.cuh.

use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::Type;
use remat_ir::ops::Layout;
use remat_tensor::QuantFormat;
use remat_tensor::int8::Int8Layout;
use remat_tensor::nf4::{Nf4Layout, ScaleKind};

/// What stands in a kernel's name for the format of a weight, with an underscore before it; nothing where it is dense.
pub fn format_name(ty: &Type) -> &'static str {
    match ty.dtype.quant_format() {
        None => "",
        Some(QuantFormat::Nf4(ScaleKind::Single)) => "_nf4",
        Some(QuantFormat::Nf4(ScaleKind::Nested)) => "_nf4nested",
        Some(QuantFormat::Int8) => "_int8",
    }
}

/// Where element (i, o) of a weight is: i times the first plus o times the second.
pub fn strides(layout: Layout, shape: &[usize]) -> [usize; 2] {
    let (inputs, outputs) = layout.in_out(shape);
    [layout.index(1, 0, inputs, outputs), layout.index(0, 1, inputs, outputs)].map(|stride| stride.max(1))
}

/// Adds the weight at operand `index` and where its parts lie.
pub fn weight(launch: Launch, call: &OpTypes<'_>, index: usize) -> Result<Launch, String> {
    let (ty, launch) = (call.reads[index], launch.read(index));
    let too_large = || format!("a weight {ty} has no size");
    Ok(match ty.dtype.quant_format() {
        None => launch,
        Some(QuantFormat::Nf4(kind)) => {
            let at = Nf4Layout::new(ty.shape.numel(), kind).ok_or_else(too_large)?;
            let launch = launch.u64(at.absmax.start);
            let launch = match kind {
                ScaleKind::Single => launch,
                ScaleKind::Nested => launch.u64(at.nested_absmax.start).u64(at.nested_map.start).u64(at.offset.start),
            };
            launch.u64(at.map.start)
        }
        Some(QuantFormat::Int8) => {
            let at = Int8Layout::new(&ty.shape).ok_or_else(too_large)?;
            launch.u64(at.absmax.start).u32(ty.shape.last())
        }
    })
}
