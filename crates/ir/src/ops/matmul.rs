//! `matmul`: the product of matrices of activations, y = a·b, one for each place of the leading axes, which broadcast.
//!
//! Operands: a [.., M, K], or [.., K, M] if `transpose_a`; b [.., K, N], or [.., N, K] if `transpose_b`. Result: y [.., M, N].
//! The derivatives are such products, summed over what was broadcast. A product with a weight is `linear`.

use super::binary::summed_to;
use super::{OpDef, float, is_false, operands};
use crate::axes::{broadcast, few_axes, offsets, strides_within};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `matmul`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matmul {
    /// Whether a's last two axes are exchanged; they are not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub transpose_a: bool,
    /// The same of b.
    #[serde(default, skip_serializing_if = "is_false")]
    pub transpose_b: bool,
}

/// What one product has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatmulSize {
    /// M: rows of the result.
    pub rows: usize,
    /// N: its columns.
    pub columns: usize,
    /// K: terms of each sum.
    pub terms: usize,
}

/// The last two axes, exchanged if so said, and those before them; at least one, of size 1 if there is none.
fn matrix(name: &str, ty: &Type, transposed: bool) -> Result<(Vec<usize>, [usize; 2]), String> {
    few_axes(name, &ty.shape)?;
    match ty.shape.dims() {
        [batch @ .., rows, columns] => {
            let batch = if batch.is_empty() { vec![1] } else { batch.to_vec() };
            Ok((batch, if transposed { [*columns, *rows] } else { [*rows, *columns] }))
        }
        _ => Err(format!("{name} {ty} must have at least 2 axes")),
    }
}

impl Matmul {
    /// The plain product.
    pub const PLAIN: Matmul = Matmul { transpose_a: false, transpose_b: false };

    /// Size of each product and the leading axes of the result, of operands that `infer` accepts.
    ///
    /// # Errors
    /// What does not fit, as `infer` says it.
    pub fn size(&self, a: &Type, b: &Type) -> Result<(MatmulSize, Vec<usize>), String> {
        let (a_batch, [rows, terms]) = matrix("a", a, self.transpose_a)?;
        let (b_batch, [b_terms, columns]) = matrix("b", b, self.transpose_b)?;
        if terms != b_terms {
            return Err(format!("a {a} and b {b}: sums over {terms} and {b_terms} terms do not fit"));
        }
        let batch = broadcast(("a", &Type::new(a.dtype, a_batch)), ("b", &Type::new(b.dtype, b_batch)));
        let batch = batch.map_err(|_| format!("the leading axes of a {a} and b {b} do not broadcast"))?;
        Ok((MatmulSize { rows, columns, terms }, batch))
    }

    /// Size of each product, of operands that `infer` accepts; allocates nothing.
    pub fn matrices(&self, a: &Type, b: &Type) -> MatmulSize {
        let last = |ty: &Type, transposed: bool| {
            let [rows, columns] = [ty.shape[ty.shape.len() - 2], ty.shape.last()];
            if transposed { [columns, rows] } else { [rows, columns] }
        };
        let ([rows, terms], [_, columns]) = (last(a, self.transpose_a), last(b, self.transpose_b));
        MatmulSize { rows, columns, terms }
    }

    /// Which matrix of an operand each matrix of the result is made from, for leading axes `batch`.
    pub fn places(operand: &[usize], batch: &[usize]) -> Vec<usize> {
        let own = &operand[..operand.len() - 2];
        offsets(batch, &strides_within(own, batch))
    }

    /// The cotangent of operand `index`, for every product.
    fn cotangent(&self, cx: &mut Vjp<'_>, dy: ValueId, index: usize) -> Result<ValueId, IrError> {
        let (a, b) = (cx.inputs[0], cx.inputs[1]);
        let of = |transpose_a: bool, transpose_b: bool| Matmul { transpose_a, transpose_b };
        match (index, self.transpose_a, self.transpose_b) {
            // da = dy·bᵀ, or its transpose b·dyᵀ; db = aᵀ·dy, or dyᵀ·a.
            (0, false, transposed) => cx.emit1("da", of(false, !transposed), &[dy, b]),
            (0, true, transposed) => cx.emit1("da", of(transposed, true), &[b, dy]),
            (_, transposed, false) => cx.emit1("db", of(!transposed, false), &[a, dy]),
            (_, transposed, true) => cx.emit1("db", of(true, transposed), &[dy, a]),
        }
    }
}

impl OpDef for Matmul {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (a, b) = (inputs[0], inputs[1]);
        float("a", a)?;
        float("b", b)?;
        if a.dtype != b.dtype {
            return Err(format!("a {a} and b {b} must have one dtype"));
        }
        let (size, batch) = self.size(a, b)?;
        let leading = if a.shape.len() == 2 && b.shape.len() == 2 { &[] } else { &batch[..] };
        Ok(vec![Type::new(a.dtype, [leading, &[size.rows, size.columns]].concat())])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn has_batch_axes(&self, inputs: &[&Type]) -> bool {
        inputs.iter().all(|ty| ty.shape.len() > 2)
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.transpose_b { OpClass::GemmOutIn } else { OpClass::GemmInOut }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("matmul")?;
        let mut cotangents = vec![None; 2];
        for index in (0..2).filter(|&index| cx.needs[index]) {
            let all = self.cotangent(cx, dy, index)?;
            let shape = cx.builder.ty(cx.inputs[index]).shape.to_vec();
            cotangents[index] = Some(summed_to(cx, ["da", "db"][index], all, &shape)?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let terms = self.matrices(inputs[0], inputs[1]).terms;
        Cost::new(2.0 * terms as f64 * outputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let types = [0, 1].map(|index: usize| Type::new(results[0].dtype, inputs[index].shape.clone()));
        let (MatmulSize { rows, columns, terms }, batch) = self.size(&types[0], &types[1]).expect("operands of `infer`");
        let at = [0, 1].map(|index: usize| Matmul::places(&inputs[index].shape, &batch));
        let mut y = Array::zeros(results[0].shape.clone());
        for (place, y) in y.data.chunks_mut(rows * columns).enumerate() {
            let a = &inputs[0].data[at[0][place] * rows * terms..];
            let b = &inputs[1].data[at[1][place] * terms * columns..];
            for (index, y) in y.iter_mut().enumerate() {
                let (m, n) = (index / columns, index % columns);
                let a = |k: usize| if self.transpose_a { a[k * rows + m] } else { a[m * terms + k] };
                let b = |k: usize| if self.transpose_b { b[n * terms + k] } else { b[k * columns + n] };
                *y = (0..terms).map(|k| a(k) * b(k)).sum();
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let op = Matmul { transpose_a, transpose_b };
            let shape = |batch: &[usize], [rows, columns]: [usize; 2], transposed: bool| {
                [batch, &if transposed { [columns, rows] } else { [rows, columns] }].concat()
            };
            for (a, b, [m, n, k]) in BATCHES {
                let sample = Sample::new(op).normal(shape(a, [m, k], transpose_a));
                samples.push(sample.normal(shape(b, [k, n], transpose_b)));
            }
        }
        samples
    }
}

/// Leading axes of two operands, and M, N, K.
const BATCHES: [(&[usize], &[usize], [usize; 3]); 6] = [
    (&[2, 3], &[2, 3], [5, 7, 33]),
    (&[], &[], [37, 19, 23]),
    (&[2, 1], &[3], [4, 1, 6]),
    (&[3], &[], [1, 5, 2]),
    (&[1], &[2], [3, 18, 1]),
    (&[2], &[2], [20, 40, 70]),
];
