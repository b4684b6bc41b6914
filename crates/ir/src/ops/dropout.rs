//! `dropout`: y = x/(1 − p) where an element is kept, else 0, each dropped with probability p.
//!
//! Operands: x, rng u32 [4] (seed low, seed high, step, micro-batch). Result: y like x. The mask is a pure function of
//! (rng, stream, element), so that it is never stored: the derivative is the same op on dy. Srivastava et al., 2014.

use super::{OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, Philox};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `dropout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of dropping an element, in [0, 1).
    pub p: f32,
    /// `stream_of_name` of the node's stable name, so that no two ops share a mask.
    pub stream: u64,
    /// Which element of the stream is the first of x: not 0 where x is a few rows of what is dropped from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first: u64,
}

fn is_zero(first: &u64) -> bool {
    *first == 0
}

/// The one rule for every op that drops.
impl Dropout {
    /// With probability `p`, of the whole of a stream.
    pub fn new(p: f32, stream: u64) -> Self {
        Dropout { p, stream, first: 0 }
    }

    /// A random word below this drops its element: p · 2³², truncated.
    pub fn threshold(p: f32) -> u32 {
        (f64::from(p) * 4_294_967_296.0) as u32
    }

    /// The factor of what is kept.
    pub fn factor(p: f32) -> f32 {
        1.0 / (1.0 - p)
    }

    /// Whether `element` is kept.
    pub fn keeps(p: f32, philox: &Philox, element: u64) -> bool {
        philox.word(element) >= Dropout::threshold(p)
    }

    /// What an element is multiplied with: 0, or [`Dropout::factor`].
    pub(super) fn multiplier(p: f32, philox: &Philox, element: u64) -> f64 {
        if Dropout::keeps(p, philox, element) { f64::from(Dropout::factor(p)) } else { 0.0 }
    }

    /// The generator of an op, from the interpreter's value of the rng operand.
    pub(super) fn philox(rng: &Array, stream: u64) -> Philox {
        Philox::for_op(std::array::from_fn(|i| rng.data[i] as u32), stream)
    }

    /// Refuses what is not a probability of dropping.
    pub(super) fn probability(name: &str, p: f32) -> Result<(), String> {
        if (0.0..1.0).contains(&p) { Ok(()) } else { Err(format!("attribute {name} = {p} must be in [0, 1)")) }
    }
}

impl OpDef for Dropout {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        Dropout::probability("p", self.p)?;
        float("x", inputs[0])?;
        typed("rng", inputs[1], DType::U32, &[4])?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn of_rows(&self, first_row: usize, width: usize) -> Self {
        Dropout { first: self.first + (first_row * width) as u64, ..self.clone() }
    }

    fn is_same_but_for_rows(&self, other: &Self) -> bool {
        self.p == other.p && self.stream == other.stream
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Dropout
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("dropout")?;
        let dx = if cx.needs[0] { Some(cx.emit1("dx", self.clone(), &[dy, cx.inputs[1]])?) } else { None };
        Ok(vec![dx, None])
    }

    /// A random word counts as 25 operations: Philox makes four with ten rounds.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(27.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let philox = Dropout::philox(inputs[1], self.stream);
        let mut y = inputs[0].clone();
        for (element, v) in y.data.iter_mut().enumerate() {
            *v *= Dropout::multiplier(self.p, &philox, self.first.wrapping_add(element as u64));
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |p, stream, first, shape: [usize; 3]| {
            Sample::new(Dropout { first, ..Dropout::new(p, stream) }).normal(shape).rng()
        };
        let whole = [of(0.3, 11, 0, [1, 3, 5]), of(0.1, u64::MAX, 0, [2, 7, 33]), of(0.0, 0, 0, [1, 2, 3])];
        whole.into_iter().chain([of(0.4, 11, 30, [1, 3, 5]), of(0.1, 3, 1 << 40, [1, 70, 3])]).collect()
    }
}
