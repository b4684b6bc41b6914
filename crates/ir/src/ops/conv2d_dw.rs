//! `conv2d_dw`: the gradients of `conv2d`'s parameters, dw = Σ over images and windows of dy · x, and db = Σ dy, in f32.
//!
//! Operands: dy [B, O, H′, W′], x [B, C, H, W], then, if `accumulate`, the gradient states that the sums are added onto in
//! place. Results: dw f32 [O, C/groups, R, S] with R and S from `kernel`, then db f32 [O] if `bias`.

use super::conv2d::{Conv2d, ConvShapes, Window, four, four_of, in_axes, same_axes};
use super::{Op, OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, THIN, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `conv2d_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2dDw {
    /// Where windows lie.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// R and S.
    pub kernel: [usize; 2],
    /// Whether the gradient of a bias is wanted, too.
    pub bias: bool,
    /// Whether the last operands are gradient states to add onto.
    pub accumulate: bool,
}

impl Conv2dDw {
    fn shapes(&self, inputs: &[&Type]) -> Result<ConvShapes, String> {
        let (dy, x) = (four("dy", inputs[0])?, four("x", inputs[1])?);
        let [rows, columns] = self.kernel;
        if rows == 0 || columns == 0 {
            return Err(format!("attribute kernel = [{rows}, {columns}] must be at least 1"));
        }
        let w = [dy[1], x[1].checked_div(self.groups).unwrap_or(0), rows, columns];
        let shapes = ConvShapes::of(&self.window, self.groups, x, w)?;
        if shapes.y != dy {
            return Err(format!("dy {} must have shape {:?}", inputs[0], shapes.y));
        }
        Ok(shapes)
    }
}

impl OpDef for Conv2dDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let results = 1 + usize::from(self.bias);
        operands(inputs, 2 + if self.accumulate { results } else { 0 })?;
        let (dy, x) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        same_axes(("dy", dy), ("x", x))?;
        let w = self.shapes(inputs)?.w;
        let all = [Type::new(DType::F32, in_axes(x.shape.len(), w)), Type::new(DType::F32, [w[0]])];
        if self.accumulate {
            for (state, ty) in inputs[2..].iter().zip(&all) {
                typed("the gradient", state, DType::F32, &ty.shape)?;
            }
        }
        Ok(all[..results].to_vec())
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["dw", "db"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        let results = if self.accumulate { 1 + usize::from(self.bias) } else { 0 };
        (0..results).map(|result| (2 + result, result)).collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (Conv2dDw { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn class(&self, _inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        let w = &outputs[0].shape;
        if w[0].min(w.numel() / w[0]) <= THIN { OpClass::ThinWeightGradient } else { OpClass::WeightGradient }
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("conv2d_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.shapes(inputs).map_or(0.0, |shapes| shapes.work()), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, x) = (inputs[0], inputs[1]);
        let start = |result: usize| match self.accumulate {
            true => inputs[2 + result].clone(),
            false => Array::zeros(results[result].shape.clone()),
        };
        let mut dw = start(0);
        let shapes = ConvShapes { x: four_of(&x.shape), w: four_of(&dw.shape), y: four_of(&dy.shape) };
        shapes.terms(&self.window, |at_y, at_w, at_x| dw.data[at_w] += dy.data[at_y] * x.data[at_x]);
        if !self.bias {
            return vec![dw];
        }
        let (mut db, [_, outputs, h, v]) = (start(1), shapes.y);
        dy.data.iter().enumerate().for_each(|(i, dy)| db.data[i / (h * v) % outputs] += dy);
        vec![dw, db]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::Conv2d(Conv2d { window, groups, bias }) = forward.op else { unreachable!("these are of conv2d") };
            let (w, [_, _, rows, columns]) = (forward.types[1].shape.clone(), four_of(&forward.types[1].shape));
            [false, true].map(|accumulate| {
                let sample = Sample::new(Conv2dDw { window, groups, kernel: [rows, columns], bias, accumulate });
                let sample = sample.normal(forward.eval()[0].shape.clone()).operand(&forward, 0);
                let sample = if accumulate { sample.normal(w.clone()) } else { sample };
                if accumulate && bias { sample.normal([w[0]]) } else { sample }
            })
        };
        Conv2d::samples().into_iter().flat_map(with_cotangent).collect()
    }
}
