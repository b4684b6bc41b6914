//! `gather_grad`: the gradient of `gather`: each slice of dy is added onto the slice of dx that it was taken from, in the
//! order of ids.
//!
//! Operands: dy, ids i32 [..]. Result: dx of dy's dtype, whose axis `axis` has `size` slices. Sums are rounded once. In a forward it
//! adds up slices by their numbers, as `torch.index_add` does; its derivative is `gather`.

use super::gather::has_axis;
use super::{Gather, OpDef, float, integer, operands};
use crate::axes::around;
use crate::{Array, Cost, IrError, Op, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `gather_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherGrad {
    /// The axis of x that is numbered.
    pub axis: usize,
    /// How many slices x has along it.
    pub size: usize,
}

impl OpDef for GatherGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (dy, ids) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        integer("ids", ids)?;
        has_axis("dy", dy, self.axis)?;
        let end = self.axis + ids.shape.len();
        if dy.shape.get(self.axis..end) != Some(ids.shape.dims()) {
            return Err(format!("dy {dy} must have the axes of ids {ids} from axis {} on", self.axis));
        }
        Ok(vec![Type::new(dy.dtype, [&dy.shape[..self.axis], &[self.size], &dy.shape[end..]].concat())])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dx = cx.dy("gather_grad")?;
        let ddy =
            if cx.needs[0] { Some(cx.emit1("dx", Gather { axis: self.axis }, &[dx, cx.inputs[1]])?) } else { None };
        Ok(vec![ddy, None])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, ids) = (inputs[0], inputs[1]);
        let [_, size, inner] = around(&results[0].shape, self.axis);
        let mut dx = Array::zeros(results[0].shape.clone());
        for (number, from) in dy.data.chunks(inner).enumerate() {
            let (block, id) = (number / ids.data.len(), ids.data[number % ids.data.len()]);
            if id >= 0.0 && id < size as f64 {
                let to = (block * size + id as usize) * inner;
                dx.data[to..to + inner].iter_mut().zip(from).for_each(|(dx, dy)| *dx += dy);
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let of = |forward: Sample| {
            let Op::Gather(Gather { axis }) = forward.op else { return None };
            let x = &forward.types[0];
            let grad = GatherGrad { axis, size: x.shape[axis] };
            x.dtype.is_float().then(|| Sample::new(grad).normal(forward.eval().remove(0).shape).operand(&forward, 1))
        };
        Gather::samples().into_iter().filter_map(of).collect()
    }
}
