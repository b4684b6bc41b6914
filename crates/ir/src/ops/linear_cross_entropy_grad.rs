//! `linear_cross_entropy_grad`: with dlogits[n] = dloss[n] · (softmax(z[n]) − onehot(target[n])), 0 where masked, times
//! 1 − (z[n] / cap)² where logits are capped: dh = dlogits·w, dw = dlogitsᵀ·h and db = Σ over n of dlogits[n];
//! with an adapter, du = dlogits·up and dup = dlogitsᵀ·u.
//!
//! Operands: those of `linear_cross_entropy`, dloss f32 [..], then, if `accumulate`, the gradient states that dw f32 [V, D],
//! db f32 [V] and dup f32 [V, R] are added onto in place, as far as they are wanted. Results, each if the attribute of its name
//! is true: dh like h, du like u, dw, db, dup. The logits are made again, a chunk of tokens at a time, in workspace.

use super::linear_cross_entropy::{LinearCrossEntropy, fit, is_false, logits, low_rank_work, product_work, token};
use super::{Op, OpDef, operands, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `linear_cross_entropy_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearCrossEntropyGrad {
    /// Whether the gradient of h is wanted.
    pub dh: bool,
    /// Whether the gradient of u is wanted; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub du: bool,
    /// Whether the gradient of w is wanted.
    pub dw: bool,
    /// Whether the gradient of the bias is wanted; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub db: bool,
    /// Whether the gradient of up is wanted; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dup: bool,
    /// Whether the last operands are gradient states of what is wanted of w, the bias and up, to add onto.
    pub accumulate: bool,
    /// Logits z become cap · tanh(z / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
    /// Whether a bias is added to the logits; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bias: bool,
    /// Whether u and up are operands; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub low_rank: bool,
}

impl LinearCrossEntropyGrad {
    /// Of logits as they are, with nothing wanted.
    pub const NONE: LinearCrossEntropyGrad = LinearCrossEntropyGrad {
        dh: false,
        du: false,
        dw: false,
        db: false,
        dup: false,
        accumulate: false,
        softcap: None,
        bias: false,
        low_rank: false,
    };

    /// The op that this is the gradient of.
    pub fn forward(&self) -> LinearCrossEntropy {
        LinearCrossEntropy { softcap: self.softcap, bias: self.bias, low_rank: self.low_rank }
    }

    /// Index of dloss among the operands.
    pub fn dloss_operand(&self) -> usize {
        self.forward().targets_operand() + 1
    }

    /// Every gradient in the order of the results: whether it is wanted, its name, the operand that it is of.
    fn gradients(&self) -> [(bool, &'static str, usize); 5] {
        let at = self.forward().u_operand().unwrap_or_default();
        [(self.dh, "dh", 0), (self.du, "du", at), (self.dw, "dw", 1), (self.db, "db", 2), (self.dup, "dup", at + 1)]
    }

    fn wanted(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.gradients().into_iter().filter(|gradient| gradient.0).map(|(_, name, operand)| (name, operand))
    }

    /// The operands that the results are the gradients of.
    pub fn differentiated(&self) -> Vec<usize> {
        self.wanted().map(|(_, operand)| operand).collect()
    }

    /// Index of the result of this name.
    pub fn result(&self, name: &str) -> Option<usize> {
        self.names().position(|result| result == name)
    }

    /// The names of the results.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.wanted().map(|(name, _)| name)
    }

    /// Index of the first result that is the gradient of a parameter and may be added onto a state.
    pub(super) fn first_of_parameters(&self) -> usize {
        usize::from(self.dh) + usize::from(self.du)
    }

    /// Whether there is such a result.
    pub(super) fn has_parameters(&self) -> bool {
        self.dw || self.db || self.dup
    }

    /// FLOPs: of the logits, and of a product for each gradient but the bias's.
    pub(super) fn work(&self, inputs: &[&Type]) -> f64 {
        let of = |wanted: [bool; 2]| 1.0 + wanted.into_iter().filter(|wanted| *wanted).count() as f64;
        let low_rank = low_rank_work(&self.forward(), inputs);
        of([self.dh, self.dw]) * product_work(inputs[0], inputs[1]) + of([self.du, self.dup]) * low_rank
    }
}

impl OpDef for LinearCrossEntropyGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if self.names().next().is_none() {
            return Err("at least one of the attributes dh, dw and db must be true".to_string());
        }
        if self.accumulate && !self.has_parameters() {
            return Err("attribute accumulate needs dw or db".to_string());
        }
        if self.db && !self.bias {
            return Err("attribute db needs bias".to_string());
        }
        if (self.du || self.dup) && !self.low_rank {
            return Err("attributes du and dup need low_rank".to_string());
        }
        softcap::check(self.softcap)?;
        let (dloss, first) = (self.dloss_operand(), self.first_of_parameters());
        let states = if self.accumulate { self.names().count() - first } else { 0 };
        operands(inputs, dloss + 1 + states)?;
        fit(&self.forward(), inputs)?;
        typed("dloss", inputs[dloss], DType::F32, &inputs[dloss - 1].shape)?;
        // Gradients of parameters are f32 whatever these are.
        let results: Vec<Type> = (self.differentiated().into_iter().enumerate())
            .map(|(index, operand)| match index < first {
                true => inputs[operand].clone(),
                false => Type::new(DType::F32, inputs[operand].shape.clone()),
            })
            .collect();
        for (state, gradient) in inputs[dloss + 1..].iter().zip(&results[first..]) {
            typed("the gradient", state, DType::F32, &gradient.shape)?;
        }
        Ok(results)
    }

    fn result_name(&self, index: usize) -> &'static str {
        self.names().nth(index).unwrap_or("result")
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        let states = if self.accumulate { self.first_of_parameters()..self.names().count() } else { 0..0 };
        (self.dloss_operand() + 1..).zip(states).collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        let op = LinearCrossEntropyGrad { accumulate: true, ..self.clone() };
        (self.has_parameters() && !self.accumulate).then(|| (op.into(), self.first_of_parameters()))
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..self.forward().targets_operand()
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("linear_cross_entropy_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.work(inputs), inputs, outputs).with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (forward, dloss) = (self.forward(), inputs[self.dloss_operand()]);
        let mut states = inputs[self.dloss_operand() + 1..].iter().map(|&state| state.clone());
        let first = self.first_of_parameters();
        let mut results: Vec<Array> = Vec::new();
        for (index, operand) in self.differentiated().into_iter().enumerate() {
            let state = if self.accumulate && index >= first { states.next() } else { None };
            results.push(state.unwrap_or_else(|| Array::zeros(inputs[operand].shape.clone())));
        }
        let at = forward.u_operand().unwrap_or_default();
        let add = |sums: &mut [f64], factor: f64, of: &[f64]| {
            sums.iter_mut().zip(of).for_each(|(sum, x)| *sum += factor * x);
        };
        for n in 0..inputs[0].rows() {
            let Some(token) = token(&forward, inputs, n) else { continue };
            for (row, z) in token.logits.iter().enumerate() {
                let onehot = if token.target == Some(row) { 1.0 } else { 0.0 };
                let dlogit = dloss.data[n] * ((z - token.lse).exp() - onehot) * softcap::slope(self.softcap, *z);
                for (result, name) in results.iter_mut().zip(self.names()) {
                    match name {
                        "dh" => add(result.row_mut(n), dlogit, inputs[1].row(row)),
                        "du" => add(result.row_mut(n), dlogit, inputs[at + 1].row(row)),
                        "dw" => add(result.row_mut(row), dlogit, inputs[0].row(n)),
                        "dup" => add(result.row_mut(row), dlogit, inputs[at].row(n)),
                        _ => result.data[row] += dlogit,
                    }
                }
            }
        }
        results
    }

    fn samples() -> Vec<Sample> {
        let wanted = [(true, false, false), (false, true, false), (true, true, true)];
        samples_of(&wanted, |gradient| gradient.into())
    }
}

/// Samples of the gradient, or of the op that has it as a part, for each choice of dh, dw and accumulate: the gradient of a
/// bias is wanted where that of the weight is, and once without it.
pub(super) fn samples_of(wanted: &[(bool, bool, bool)], op: impl Fn(LinearCrossEntropyGrad) -> Op) -> Vec<Sample> {
    let mut samples = Vec::new();
    for sample in LinearCrossEntropy::samples() {
        let Op::LinearCrossEntropy(LinearCrossEntropy { softcap, bias, low_rank }) = sample.op else { continue };
        let of = |dh, dw, db, accumulate| {
            let (du, dup) = (low_rank && dh, low_rank && dw);
            LinearCrossEntropyGrad { dh, du, dw, db, dup, accumulate, softcap, bias, low_rank }
        };
        let mut gradients: Vec<_> =
            wanted.iter().map(|&(dh, dw, accumulate)| of(dh, dw, dw && bias, accumulate)).collect();
        // A frozen head with an adapter that is trained.
        let adapter = |accumulate| LinearCrossEntropyGrad {
            dup: true,
            dw: false,
            db: false,
            ..of(true, true, false, accumulate)
        };
        gradients.extend(low_rank.then(|| [adapter(false), adapter(true)]).into_iter().flatten());
        gradients.extend(bias.then(|| of(true, false, true, true)));
        samples.extend(gradients.into_iter().map(|gradient| with_cotangent(&sample, gradient, &op)));
    }
    samples
}

/// The operands of `forward`, a cotangent, and gradient states where they are added onto.
fn with_cotangent(
    forward: &Sample,
    gradient: LinearCrossEntropyGrad,
    op: impl Fn(LinearCrossEntropyGrad) -> Op,
) -> Sample {
    let (targets, first, accumulate) =
        (gradient.dloss_operand() - 1, gradient.first_of_parameters(), gradient.accumulate);
    let of_parameters: Vec<usize> = gradient.differentiated().into_iter().skip(first).collect();
    let sample = (0..=targets).fold(Sample::new(op(gradient)), |sample, index| sample.operand(forward, index));
    let sample = sample.normal_around(forward.types[targets].shape.clone(), 0.1, 0.05);
    let states = of_parameters.into_iter().filter(|_| accumulate);
    states.fold(sample, |sample, operand| sample.normal(forward.types[operand].shape.clone()))
}
