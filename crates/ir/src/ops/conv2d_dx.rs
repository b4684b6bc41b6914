//! `conv2d_dx`: the gradient of `conv2d`'s input, dx = Σ over windows that an element is in of w · dy. Of itself it is a
//! transposed convolution.
//!
//! Operands: dy [B, O, H′, W′], w [O, C/groups, R, S]. Result: dx [B, C, H, W] like dy, with H and W from `size`.

use super::conv2d::{Conv2d, ConvShapes, Window, class_of, four, four_of, in_axes, same_axes};
use super::{OpDef, float, operands};
use crate::{Array, Cost, IrError, Op, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `conv2d_dx`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2dDx {
    /// Where windows lie.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// H and W.
    pub size: [usize; 2],
}

impl Conv2dDx {
    fn shapes(&self, inputs: &[&Type]) -> Result<ConvShapes, String> {
        let (dy, w) = (four("dy", inputs[0])?, four("w", inputs[1])?);
        let Some(channels) = w[1].checked_mul(self.groups) else {
            return Err(format!("attribute groups = {} is too large", self.groups));
        };
        let shapes = ConvShapes::of(&self.window, self.groups, [dy[0], channels, self.size[0], self.size[1]], w)?;
        if shapes.y != dy {
            return Err(format!("dy {} must have shape {:?}", inputs[0], shapes.y));
        }
        Ok(shapes)
    }
}

impl OpDef for Conv2dDx {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (dy, w) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        same_axes(("dy", dy), ("w", w))?;
        Ok(vec![Type::new(dy.dtype, in_axes(dy.shape.len(), self.shapes(inputs)?.x))])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        four("w", inputs[1]).map_or(OpClass::GemmInOut, class_of)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("conv2d_dx", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.shapes(inputs).map_or(0.0, |shapes| shapes.work()), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, w, mut dx) = (inputs[0], inputs[1], Array::zeros(results[0].shape.clone()));
        let shapes = ConvShapes { x: four_of(&dx.shape), w: four_of(&w.shape), y: four_of(&dy.shape) };
        shapes.terms(&self.window, |at_y, at_w, at_x| dx.data[at_x] += w.data[at_w] * dy.data[at_y]);
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::Conv2d(Conv2d { window, groups, .. }) = forward.op else { unreachable!("these are of conv2d") };
            let x = four_of(&forward.types[0].shape);
            let sample = Sample::new(Conv2dDx { window, groups, size: [x[2], x[3]] });
            sample.normal(forward.eval()[0].shape.clone()).operand(&forward, 1)
        };
        Conv2d::samples().into_iter().map(with_cotangent).collect()
    }
}
