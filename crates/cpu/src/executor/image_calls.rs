//! How ops on images call their kernels: sizes of convolutions, pooling and norms of channels. Invariant: as of `dispatch`.

use super::call::Call;
use crate::element::Element;
use crate::kernels;
use crate::kernels::channel_sums::ChannelSize;
use crate::kernels::pool2d::Pooling;
use crate::kernels::windows::ConvSize;
use remat_ir::ops;

pub(super) fn run_batch_norm<T: Element>(call: &Call<'_>, op: &ops::BatchNorm) {
    let (size, operands, y) = (channel_size(call.shape(0)), [0, 1, 2].map(|i| call.read::<T>(i)), call.write::<T>(0));
    if op.running {
        let given = [3, 4].map(|i| call.read(i));
        return kernels::batch_norm::batch_norm_running(call.pool, size, operands, given, op.eps, y);
    }
    kernels::batch_norm::batch_norm(call.pool, size, operands, op.eps, y, [1, 2].map(|i| call.write(i)));
}

pub(super) fn run_batch_norm_grad<T: Element>(call: &Call<'_>, op: &ops::BatchNormGrad) {
    let (size, dx) = (channel_size(call.shape(0)), call.write::<T>(0));
    if op.running {
        let (operands, variance) = ([0, 1].map(|i| call.read::<T>(i)), call.read(2));
        return kernels::batch_norm_grad::batch_norm_running_grad(call.pool, size, operands, variance, op.eps, dx);
    }
    let (operands, statistics) = ([0, 1, 2].map(|i| call.read::<T>(i)), [3, 4].map(|i| call.read(i)));
    kernels::batch_norm_grad::batch_norm_grad(call.pool, size, operands, statistics, op.eps, dx);
}

/// Images, channels and places of a shape [B, C, ..].
pub(super) fn channel_size(shape: &[usize]) -> ChannelSize {
    ChannelSize { batch: shape[0], channels: shape[1], places: shape[2..].iter().product() }
}

/// Windows over images of the shape of x, with results of the shape of y.
pub(super) fn pooling(op: ops::Pool2d, x: &[usize], y: &[usize]) -> Pooling {
    let [[batch, channels, height, width], [_, _, down, across]] = [x, y].map(ops::image_sizes);
    Pooling { op, planes: batch * channels, image: [height, width], result: [down, across] }
}

/// Sizes of the first result.
pub(super) fn result_shape<'a>(call: &Call<'a>) -> &'a [usize] {
    call.step.writes[0].ty.shape.dims()
}

/// The sizes of a convolution, from the shapes of x, w and y.
pub(super) fn conv_size(x: &[usize], w: &[usize], y: &[usize], groups: usize, window: ops::Window) -> ConvSize {
    let [[batch, _, height, width], [outputs, inputs, rows, columns], [_, _, down, across]] =
        [x, w, y].map(ops::image_sizes);
    ConvSize {
        batch,
        groups,
        inputs,
        outputs: outputs / groups,
        image: [height, width],
        kernel: [rows, columns],
        result: [down, across],
        window,
    }
}
