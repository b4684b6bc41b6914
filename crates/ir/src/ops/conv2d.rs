//! `conv2d`: y[b, o, i, j] = bias[o] + Σ over c, r, s of w[o, c, r, s] · x[b, c, i·stride + r·dilation − padding, …], where x is 0
//! outside; a cross-correlation, as torch.nn.functional.conv2d. Channels are in `groups` that do not mix.
//!
//! Operands: x [B, C, H, W], w [O, C/groups, R, S], then bias [O] if `bias`. Result: y [B, O, H′, W′] with
//! H′ = ⌊(H + 2·padding − dilation·(R − 1) − 1) / stride⌋ + 1, and W′ alike. A convolution of one axis, of x [B, C, W] with
//! w [O, C/groups, S], is one with H = R = 1.
//! Cost: 2·B·O·H′·W′·(C/groups)·R·S FLOPs.

use super::{Conv2dDw, Conv2dDx, OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, THIN, Type, ValueId, Vjp};
use remat_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Where a window lies: of each two numbers the first is of rows, the second of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Elements between neighbouring windows.
    pub stride: [usize; 2],
    /// How far the first window begins before the input.
    pub padding: [usize; 2],
    /// Elements between neighbours of a window.
    pub dilation: [usize; 2],
}

impl Default for Window {
    /// One by one, no padding, no gaps.
    fn default() -> Self {
        Window { stride: [1, 1], padding: [0, 0], dilation: [1, 1] }
    }
}

/// No attribute of a window is larger: sums of a few cannot overflow.
const MOST: usize = 1 << 24;

impl Window {
    /// How many windows of `kernel` elements there are along both axes of an input.
    ///
    /// # Errors
    /// A stride or dilation of 0, a window that is larger than the padded input.
    pub fn output(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], String> {
        for (name, [rows, columns]) in [("stride", self.stride), ("dilation", self.dilation)] {
            if rows == 0 || columns == 0 {
                return Err(format!("attribute {name} = [{rows}, {columns}] must be at least 1"));
            }
        }
        let sizes = [self.stride, self.padding, self.dilation, input, kernel];
        if let Some(size) = sizes.into_iter().flatten().find(|&size| size > MOST) {
            return Err(format!("stride, padding, dilation, input and window are at most {MOST}, not {size}"));
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let (padded, reach) = (input[axis] + 2 * self.padding[axis], self.dilation[axis] * (kernel[axis] - 1) + 1);
            let Some(rest) = padded.checked_sub(reach) else {
                let (input, kernel) = (Shape::from(input), Shape::from(kernel));
                return Err(format!("a window of {kernel} reaches over {reach} of {padded}, with padding, of {input}"));
            };
            output[axis] = rest / self.stride[axis] + 1;
        }
        Ok(output)
    }

    /// Which element of the input, along an axis, is element `tap` of window `at`; `None` outside.
    pub fn input(&self, axis: usize, at: usize, tap: usize, size: usize) -> Option<usize> {
        let place = at * self.stride[axis] + tap * self.dilation[axis];
        place.checked_sub(self.padding[axis]).filter(|&place| place < size)
    }
}

/// The shapes of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvShapes {
    pub(super) x: [usize; 4],
    pub(super) w: [usize; 4],
    pub(super) y: [usize; 4],
}

/// The four sizes of images or kernels; those of one axis, with three sizes, have one row.
pub(super) fn four_of(shape: &Shape) -> [usize; 4] {
    match *shape.dims() {
        [outer, channels, columns] => [outer, channels, 1, columns],
        _ => std::array::from_fn(|axis| shape.dims().get(axis).copied().unwrap_or(1)),
    }
}

/// The same for devices.
pub fn image_sizes(shape: &[usize]) -> [usize; 4] {
    four_of(&Shape::from(shape))
}

/// Sizes back in as many axes.
pub(super) fn in_axes(axes: usize, [outer, channels, rows, columns]: [usize; 4]) -> Shape {
    if axes == 3 { Shape::from([outer, channels, columns]) } else { Shape::from([outer, channels, rows, columns]) }
}

/// The four sizes of an operand, which has three or four axes.
pub(super) fn four(name: &str, ty: &Type) -> Result<[usize; 4], String> {
    match ty.shape.len() {
        3 | 4 => Ok(four_of(&ty.shape)),
        _ => Err(format!("{name} {ty} must have 4 axes, or 3 where images have one row")),
    }
}

/// Refuses operands whose images are of unlike axes.
pub(super) fn same_axes(a: (&str, &Type), b: (&str, &Type)) -> Result<(), String> {
    if a.1.shape.len() == b.1.shape.len() && a.1.dtype == b.1.dtype {
        return Ok(());
    }
    Err(format!("{} {} and {} {} must have one dtype and as many axes", a.0, a.1, b.0, b.1))
}

impl ConvShapes {
    /// Checks that x and w fit each other.
    pub(super) fn of(window: &Window, groups: usize, x: [usize; 4], w: [usize; 4]) -> Result<Self, String> {
        let [batch, channels, height, width] = x;
        let [outputs, in_group, rows, columns] = w;
        let fits = groups > 0 && channels.is_multiple_of(groups) && channels / groups == in_group;
        if !fits || !outputs.is_multiple_of(groups) {
            return Err(format!(
                "w {} of {groups} groups does not fit x {}: it is [O, C/groups, R, S] with groups dividing O and C",
                Shape::from(w),
                Shape::from(x)
            ));
        }
        let [h, v] = window.output([height, width], [rows, columns])?;
        Ok(ConvShapes { x, w, y: [batch, outputs, h, v] })
    }

    /// FLOPs of one of the three products.
    pub(super) fn work(&self) -> f64 {
        let outputs: f64 = self.y.iter().map(|&size| size as f64).product();
        2.0 * outputs * self.w[1..].iter().map(|&size| size as f64).product::<f64>()
    }

    /// Calls `each` with the indices in y, w and x of every term of the sum.
    pub(super) fn terms(&self, window: &Window, mut each: impl FnMut(usize, usize, usize)) {
        let ([batch, channels, height, width], [outputs, in_group, rows, columns]) = (self.x, self.w);
        let (groups, [_, _, h, v]) = (channels / in_group, self.y);
        let all = (0..batch).flat_map(|b| (0..outputs).map(move |o| (b, o)));
        for (b, o, i, j) in all.flat_map(|(b, o)| (0..h * v).map(move |p| (b, o, p / v, p % v))) {
            let first = o / (outputs / groups) * in_group;
            for (c, r, s) in (0..in_group * rows * columns).map(|t| (t / (rows * columns), t / columns % rows, t % columns)) {
                let (row, column) = (window.input(0, i, r, height), window.input(1, j, s, width));
                let Some((row, column)) = row.zip(column) else { continue };
                let at_y = ((b * outputs + o) * h + i) * v + j;
                let at_w = ((o * in_group + c) * rows + r) * columns + s;
                each(at_y, at_w, ((b * channels + first + c) * height + row) * width + column);
            }
        }
    }
}

/// The class of a convolution of so many channels in a group.
pub(super) fn class_of(w: [usize; 4]) -> OpClass {
    if w[0].min(w[1] * w[2] * w[3]) <= THIN { OpClass::ThinOut } else { OpClass::GemmOutIn }
}

/// Attributes of `conv2d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Where windows lie.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// Whether a bias follows.
    pub bias: bool,
}

impl Conv2d {
    fn shapes(&self, inputs: &[&Type]) -> Result<ConvShapes, String> {
        ConvShapes::of(&self.window, self.groups, four("x", inputs[0])?, four("w", inputs[1])?)
    }
}

impl OpDef for Conv2d {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.bias))?;
        let (x, w) = (inputs[0], inputs[1]);
        float("x", x)?;
        same_axes(("x", x), ("w", w))?;
        let shapes = self.shapes(inputs)?;
        if let Some(bias) = inputs.get(2) {
            typed("bias", bias, x.dtype, &shapes.w[..1])?;
        }
        Ok(vec![Type::new(x.dtype, in_axes(x.shape.len(), shapes.y))])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        four("w", inputs[1]).map_or(OpClass::GemmOutIn, class_of)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("conv2d")?;
        let mut cotangents = vec![None; cx.inputs.len()];
        let bias = self.bias && cx.needs[2];
        if cx.needs[1] || bias {
            let w = four_of(&cx.builder.ty(cx.inputs[1]).shape);
            let kernel = [w[2], w[3]];
            let op = Conv2dDw { window: self.window, groups: self.groups, kernel, bias, accumulate: false };
            let grads = cx.emit("dw", op, &[dy, cx.inputs[0]])?;
            cotangents[1] = cx.needs[1].then_some(grads[0]);
            if bias {
                cotangents[2] = Some(grads[1]);
            }
        }
        if cx.needs[0] {
            let x = four_of(&cx.builder.ty(cx.inputs[0]).shape);
            let op = Conv2dDx { window: self.window, groups: self.groups, size: [x[2], x[3]] };
            cotangents[0] = Some(cx.emit1("dx", op, &[dy, cx.inputs[1]])?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.shapes(inputs).map_or(0.0, |shapes| shapes.work()), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w, mut y) = (inputs[0], inputs[1], Array::zeros(results[0].shape.clone()));
        let shapes = ConvShapes { x: four_of(&x.shape), w: four_of(&w.shape), y: four_of(&y.shape) };
        if let Some(bias) = inputs.get(2) {
            let pixels = shapes.y[2] * shapes.y[3];
            y.data.iter_mut().enumerate().for_each(|(i, y)| *y = bias.data[i / pixels % bias.data.len()]);
        }
        shapes.terms(&self.window, |at_y, at_w, at_x| y.data[at_y] += w.data[at_w] * x.data[at_x]);
        vec![y]
    }

    /// Plain; padded, strided, dilated, each unlike along its axes; groups, one channel each; one axis; sums longer than a
    /// block of any kernel, and more pixels than its tiles have; a stride that leaves some of the input out.
    fn samples() -> Vec<Sample> {
        let plain = Window::default();
        let padded = Window { padding: [1, 1], ..plain };
        vec![
            of(plain, 1, false, [1, 1, 3, 3], [1, 1, 2, 2]),
            of(padded, 1, true, [2, 3, 5, 6], [4, 3, 3, 3]),
            of(Window { stride: [2, 3], padding: [1, 2], dilation: [1, 2] }, 1, true, [2, 2, 7, 11], [3, 2, 3, 2]),
            of(Window { stride: [3, 2], padding: [2, 0], dilation: [2, 1] }, 2, false, [2, 4, 9, 8], [6, 2, 2, 3]),
            of(padded, 5, true, [1, 5, 4, 5], [5, 1, 3, 3]),
            of(Window { padding: [0, 2], ..plain }, 1, true, [2, 3, 20], [5, 3, 5]),
            of(Window { stride: [2, 2], ..plain }, 1, false, [1, 33, 6, 6], [9, 33, 3, 3]),
            of(padded, 1, true, [3, 4, 11, 13], [17, 4, 3, 3]),
            of(Window { stride: [4, 4], ..plain }, 1, true, [2, 2, 9, 9], [3, 2, 1, 1]),
            of(Window { stride: [1, 2], padding: [0, 3], dilation: [1, 2] }, 2, true, [2, 4, 30], [6, 2, 5]),
        ]
    }
}

fn of<const AXES: usize>(window: Window, groups: usize, bias: bool, x: [usize; AXES], w: [usize; AXES]) -> Sample {
    let sample = Sample::new(Conv2d { window, groups, bias }).normal(x).normal(w);
    if bias { sample.normal([w[0]]) } else { sample }
}
