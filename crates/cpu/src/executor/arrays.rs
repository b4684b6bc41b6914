//! Calls of the ops that walk tensors by axes: what `dispatch` says of each in one line.
//!
//! Invariant: a mask or an id that no kernel could use is an error of the input. Look next at `dispatch.rs`.

use super::call::Call;
use crate::element::Element;
use crate::kernels;
use remat_ir::axes::{MOST_AXES, around};
use remat_ir::ops;
use remat_plan::DeviceError;
use remat_tensor::DType;

/// A row's groups lie one behind the other, as rows do; and so do the blocks of an axis with others behind it.
pub(super) fn split<T: Element>(call: &Call<'_>, op: &ops::Split) {
    let shape = call.shape(0);
    let behind: usize = shape[shape.len() - op.behind..].iter().product();
    let (stride, mut offset) = (op.sizes.iter().sum::<usize>() * behind, 0);
    for (index, size) in op.sizes.iter().enumerate() {
        let width = size * behind;
        kernels::split::split(call.pool, call.read::<T>(0), stride, offset, width, call.write::<T>(index));
        offset += width;
    }
}

pub(super) fn concat<T: Element>(call: &Call<'_>, op: &ops::Concat) {
    let (stride, mut offset) = (op.width(call.result_shape(0)), 0);
    for index in 0..call.step.reads.len() {
        let width = op.width(call.shape(index));
        kernels::concat::concat(call.pool, call.read::<T>(index), width, offset, stride, call.write::<T>(0));
        offset += width;
    }
}

pub(super) fn binary<T: Element>(call: &Call<'_>, op: &ops::Binary) {
    let (a, b) = ((call.shared::<T>(0), call.shape(0)), (call.shared::<T>(1), call.shape(1)));
    kernels::binary::binary(call.pool, op.function, call.result_shape(0), a, b, call.out::<T>(0));
}

pub(super) fn binary_grad<T: Element>(call: &Call<'_>, op: &ops::BinaryGrad) {
    let (a, b) = ((call.read::<T>(1), call.shape(1)), (call.read::<T>(2), call.shape(2)));
    let (function, dy) = ((op.function, op.operand), call.shared::<T>(0));
    kernels::binary_grad::binary_grad(call.pool, function, call.shape(0), dy, a, b, call.out::<T>(0));
}

pub(super) fn compare<T: Element>(call: &Call<'_>, op: &ops::Compare) {
    let (pool, shape, shapes) = (call.pool, call.result_shape(0), [call.shape(0), call.shape(1)]);
    if call.step.reads[0].ty.dtype == DType::I32 {
        let (a, b) = ((call.ints(0), shapes[0]), (call.ints(1), shapes[1]));
        return kernels::compare::compare(pool, op.relation, shape, a, b, call.write_ints(0));
    }
    let (a, b) = ((call.read::<T>(0), shapes[0]), (call.read::<T>(1), shapes[1]));
    kernels::compare::compare(pool, op.relation, shape, a, b, call.write_ints(0));
}

pub(super) fn matmul<T: Element>(call: &Call<'_>, op: ops::Matmul) {
    let [a, b] = [0, 1].map(|index| &call.step.reads[index].ty);
    let size = op.matrices(a, b);
    let y = call.result_shape(0);
    // Two plain matrices are one product.
    let (mut batch, leading) = ([1; MOST_AXES], &y[..y.len() - 2]);
    batch[..leading.len()].copy_from_slice(leading);
    let batch = &batch[..leading.len().max(1)];
    let (a, b) = ((call.read::<T>(0), call.shape(0)), (call.read::<T>(1), call.shape(1)));
    kernels::matmul::matmul(call.pool, op, size, batch, a, b, call.write::<T>(0));
}

pub(super) fn gather<T: Element>(call: &Call<'_>, op: &ops::Gather) -> Result<(), DeviceError> {
    let sizes = around(call.shape(0), op.axis);
    let ids = call.numbers(1, sizes[1])?;
    kernels::gather::gather(call.pool, sizes, call.read::<T>(0), ids, call.write::<T>(0));
    Ok(())
}

pub(super) fn gather_grad<T: Element>(call: &Call<'_>, op: &ops::GatherGrad) -> Result<(), DeviceError> {
    let sizes = around(call.result_shape(0), op.axis);
    let ids = call.numbers(1, sizes[1])?;
    kernels::gather_grad::gather_grad(call.pool, sizes, call.read::<T>(0), ids, call.write::<T>(0));
    Ok(())
}

pub(super) fn take_along_axis<T: Element>(call: &Call<'_>, op: &ops::TakeAlongAxis) -> Result<(), DeviceError> {
    let sizes = around(call.shape(0), op.axis);
    let ids = call.numbers(1, sizes[1])?;
    kernels::take_along_axis::take_along_axis(call.pool, sizes, call.read::<T>(0), ids, call.write::<T>(0));
    Ok(())
}

pub(super) fn take_along_axis_grad<T: Element>(
    call: &Call<'_>,
    op: &ops::TakeAlongAxisGrad,
) -> Result<(), DeviceError> {
    let sizes = around(call.result_shape(0), op.axis);
    let ids = call.numbers(1, sizes[1])?;
    kernels::take_along_axis_grad::take_along_axis_grad(call.pool, sizes, call.read::<T>(0), ids, call.write::<T>(0));
    Ok(())
}

pub(super) fn select<T: Element>(call: &Call<'_>) -> Result<(), DeviceError> {
    let mask = (call.mask(0)?, call.shape(0));
    let (a, b) = ((call.read::<T>(1), call.shape(1)), (call.read::<T>(2), call.shape(2)));
    kernels::select::select(call.pool, call.result_shape(0), mask, a, b, call.write::<T>(0));
    Ok(())
}

pub(super) fn masked_fill<T: Element>(call: &Call<'_>, op: &ops::MaskedFill) -> Result<(), DeviceError> {
    let (shape, mask, x) = (call.shape(0), (call.mask(1)?, call.shape(1)), call.shared::<T>(0));
    let fill = (T::from_f32(op.value), op.filled);
    kernels::masked_fill::masked_fill(call.pool, shape, x, mask, fill, call.out::<T>(0));
    Ok(())
}
