//! `linear`: y = residual + alpha · x·W + bias + beta · u·B, over the last axis of x.
//!
//! Operands: x [.., in], w ([out, in] or [in, out] by `layout`), then bias [out] if `bias`, then residual [.., out] if
//! `residual`, then u [.., r] and b ([out, r] or [r, out] by its own layout) if `low_rank`. Result: y [.., out]. With a
//! flipped layout it is also its own dX. Cost: 2·N·(in + r)·out FLOPs.
//! w may be quantised: it stands for its decoded numbers, rounded to the dtype of x as a dense w is when it is loaded. It
//! is frozen: there is no dW.

use super::{BiasGrad, Layout, LinearDw, OpDef, finite, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, THIN, Type, ValueId, Vjp};
use remat_tensor::{DType, QuantFormat, bf16};
use serde::{Deserialize, Serialize};

/// Rows that a weight is packed for at a time, and decoded where it is quantised, so that the rows' sums stay in a cache: for
/// more of them it is read again.
const ROWS_PER_PACKING: usize = 512;

/// A second product, of an adapter as a rule, that is added in the same pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRank {
    /// How b is stored.
    pub layout: Layout,
    /// Factor of the product.
    pub beta: f32,
}

/// Attributes of `linear`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// How w is stored.
    pub layout: Layout,
    /// Factor of the product; α/r for an adapter's second matrix, else 1.
    pub alpha: f32,
    /// Whether a bias operand follows.
    pub bias: bool,
    /// Whether a residual operand follows, added to the result.
    pub residual: bool,
    /// Whether u and b follow, whose product is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_rank: Option<LowRank>,
}

impl Linear {
    /// x·W with nothing added.
    pub fn plain(layout: Layout) -> Self {
        Linear { layout, alpha: 1.0, bias: false, residual: false, low_rank: None }
    }

    /// Index of the residual operand, if there is one.
    pub fn residual_operand(&self) -> Option<usize> {
        self.residual.then_some(2 + usize::from(self.bias))
    }

    /// Index of u, if there is one; b follows.
    pub fn low_rank_operand(&self) -> Option<usize> {
        self.low_rank.as_ref().map(|_| 2 + usize::from(self.bias) + usize::from(self.residual))
    }

    fn fit_low_rank(&self, low_rank: &LowRank, y: &Type, u: &Type, b: &Type) -> Result<(), String> {
        finite("beta", low_rank.beta)?;
        if b.shape.len() != 2 || b.dtype != y.dtype {
            return Err(format!("b {b} must have two axes and the dtype of x, {}", y.dtype));
        }
        let (rank, fan_out) = low_rank.layout.in_out(&b.shape);
        if *u != Type::new(y.dtype, y.shape.with_last(rank)) || fan_out != y.shape.last() {
            return Err(format!("u {u} times b {b} does not give {y}"));
        }
        Ok(())
    }
}

impl OpDef for Linear {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let given = 2 + usize::from(self.bias) + usize::from(self.residual);
        operands(inputs, given + 2 * usize::from(self.low_rank.is_some()))?;
        finite("alpha", self.alpha)?;
        let (x, w) = (inputs[0], inputs[1]);
        float("x", x)?;
        if w.dtype.quant_format().is_none() {
            float("w", w)?;
        }
        if w.shape.len() != 2 {
            return Err(format!("w {w} must have two axes"));
        }
        let (fan_in, fan_out) = self.layout.in_out(&w.shape);
        if x.shape.is_empty() || x.shape.last() != fan_in {
            return Err(format!("the last axis of x {x} does not match w {w}, whose input size is {fan_in}"));
        }
        let y = Type::new(x.dtype, x.shape.with_last(fan_out));
        if self.bias && inputs[2].shape.dims() != [fan_out] {
            return Err(format!("bias {} must have shape [{fan_out}]", inputs[2]));
        }
        if let Some(index) = self.residual_operand()
            && *inputs[index] != y
        {
            return Err(format!("residual {} must be {y}", inputs[index]));
        }
        if let (Some(low_rank), Some(index)) = (&self.low_rank, self.low_rank_operand()) {
            self.fit_low_rank(low_rank, &y, inputs[index], inputs[index + 1])?;
        }
        Ok(vec![y])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        self.residual_operand().map(|index| (index, 0)).into_iter().collect()
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some([Some(0), self.residual_operand(), self.low_rank_operand()].into_iter().flatten().collect())
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        match (inputs[1].dtype.quant_format(), self.layout) {
            (Some(QuantFormat::Nf4(_)), Layout::OutIn) => return OpClass::Nf4OutIn,
            (Some(QuantFormat::Nf4(_)), Layout::InOut) => return OpClass::Nf4InOut,
            (Some(QuantFormat::Int8), Layout::OutIn) => return OpClass::Int8OutIn,
            (Some(QuantFormat::Int8), Layout::InOut) => return OpClass::Int8InOut,
            (None, _) => {}
        }
        match self.layout {
            _ if outputs[0].shape.last() <= THIN => OpClass::ThinOut,
            _ if inputs[0].shape.last() <= THIN => OpClass::ThinIn,
            Layout::OutIn => OpClass::GemmOutIn,
            Layout::InOut => OpClass::GemmInOut,
        }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("linear")?;
        let (x, w) = (cx.inputs[0], cx.inputs[1]);
        let mut cotangents = vec![None; cx.inputs.len()];
        if cx.needs[1] {
            if cx.builder.ty(w).dtype.quant_format().is_some() {
                return Err(cx.refuse("linear", "its weight is quantised and cannot be trained; train an adapter"));
            }
            let dw = LinearDw { layout: self.layout, alpha: self.alpha, accumulate: false };
            cotangents[1] = Some(cx.emit1("dw", dw, &[x, dy])?);
        }
        if self.bias && cx.needs[2] {
            cotangents[2] = Some(cx.emit1("db", BiasGrad { accumulate: false }, &[dy])?);
        }
        if cx.needs[0] {
            let dx = Linear { alpha: self.alpha, ..Linear::plain(self.layout.flipped()) };
            cotangents[0] = Some(cx.emit1("dx", dx, &[dy, w])?);
        }
        if let Some(index) = self.residual_operand()
            && cx.needs[index]
        {
            cotangents[index] = Some(dy);
        }
        if let (Some(LowRank { layout, beta }), Some(index)) = (self.low_rank.clone(), self.low_rank_operand()) {
            let (u, b) = (cx.inputs[index], cx.inputs[index + 1]);
            if cx.needs[index] {
                let du = Linear { alpha: beta, ..Linear::plain(layout.flipped()) };
                cotangents[index] = Some(cx.emit1("du", du, &[dy, b])?);
            }
            if cx.needs[index + 1] {
                let db = LinearDw { layout, alpha: beta, accumulate: false };
                cotangents[index + 1] = Some(cx.emit1("db", db, &[u, dy])?);
            }
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let terms = inputs[0].shape.numel() + self.low_rank_operand().map_or(0, |index| inputs[index].shape.numel());
        let work = 2.0 * terms as f64 * outputs[0].shape.last() as f64;
        let times = inputs[0].shape.rows().div_ceil(ROWS_PER_PACKING).max(1);
        let cost = Cost::new(work, inputs, outputs).with_bytes((times - 1) * inputs[1].bytes());
        match inputs[1].dtype.quant_format() {
            None => cost,
            Some(_) => cost.with_inner((times * inputs[1].shape.numel()) as f64),
        }
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w) = (inputs[0], inputs[1]);
        let (fan_in, fan_out) = self.layout.in_out(&w.shape);
        let mut y = Array::zeros(results[0].shape.clone());
        // A quantised weight is read in the dtype of x; a dense one has it already.
        let rounded = (results[0].dtype == DType::BF16).then(|| w.map(|x| bf16::from_f32(x as f32).to_f64()));
        let w = rounded.as_ref().unwrap_or(w);
        for n in 0..x.rows() {
            for o in 0..fan_out {
                let product: f64 =
                    (0..fan_in).map(|i| x.row(n)[i] * w.data[self.layout.index(i, o, fan_in, fan_out)]).sum();
                let bias = if self.bias { inputs[2].data[o] } else { 0.0 };
                let residual = self.residual_operand().map_or(0.0, |index| inputs[index].row(n)[o]);
                let mut low_rank = 0.0;
                if let (Some(LowRank { layout, beta }), Some(index)) = (&self.low_rank, self.low_rank_operand()) {
                    let (u, b) = (inputs[index].row(n), &inputs[index + 1].data);
                    let rank = u.len();
                    let terms = u.iter().enumerate().map(|(r, u)| u * b[layout.index(r, o, rank, fan_out)]);
                    low_rank = f64::from(*beta) * terms.sum::<f64>();
                }
                y.row_mut(n)[o] = residual + f64::from(self.alpha) * product + bias + low_rank;
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (rows, fan_in, fan_out) in [(6, 5, 7), (17, 33, 19), (3, 1, 1), (40, 70, 4), (9, 4, 65)] {
            for layout in [Layout::OutIn, Layout::InOut] {
                let w = match layout {
                    Layout::OutIn => [fan_out, fan_in],
                    Layout::InOut => [fan_in, fan_out],
                };
                let plain = Sample::new(Linear::plain(layout)).normal([1, rows, fan_in]).normal(w);
                let full = Linear { layout, alpha: 0.5, bias: true, residual: true, low_rank: None };
                let operands = |op: Linear| {
                    let sample = Sample::new(op).normal([1, rows, fan_in]).normal(w);
                    sample.normal([fan_out]).normal([1, rows, fan_out])
                };
                let adapted = |layout| Linear { low_rank: Some(LowRank { layout, beta: 2.0 }), ..full.clone() };
                let down = operands(adapted(Layout::OutIn)).normal([1, rows, 3]).normal([fan_out, 3]);
                let up = operands(adapted(Layout::InOut)).normal([1, rows, 4]).normal([4, fan_out]);
                samples.extend([plain, operands(full.clone()), down, up]);
            }
        }
        samples.extend(quantised_samples());
        samples
    }
}

/// With a quantised w. Samples are kept as numbers and quantised again by whoever runs them, so they are such that this
/// changes nothing: single scales, double quantisation of scales that are all 1, or int8 with scales that are all 1.
fn quantised_samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (rows, fan_in, fan_out) in [(17, 33, 19), (40, 128, 70), (3, 300, 65)] {
        for layout in [Layout::OutIn, Layout::InOut] {
            let w = match layout {
                Layout::OutIn => [fan_out, fan_in],
                Layout::InOut => [fan_in, fan_out],
            };
            let low_rank = Some(LowRank { layout: Layout::InOut, beta: 0.25 });
            let adapted = Linear { low_rank, ..Linear::plain(layout) };
            let adapted =
                Sample::new(adapted).normal([1, rows, fan_in]).normal(w).normal([1, rows, 5]).normal([5, fan_out]);
            let full = Linear { layout, alpha: 0.5, bias: true, residual: true, low_rank: None };
            let full =
                Sample::new(full).normal([1, rows, fan_in]).normal(w).normal([fan_out]).normal([1, rows, fan_out]);
            samples.extend([full, adapted].map(|sample| sample.in_dtype(1, DType::Nf4Single)));
            // Plain products, and with everything added, of a w whose every group has 1 as its largest magnitude.
            let scaled = |op: Linear, group: usize| {
                let ones = (0..fan_in * fan_out).map(|i| if i % group == 0 { 1.0 } else { (i as f64 * 0.7).sin() });
                Sample::new(op).normal([1, rows, fan_in]).f32(w, ones.collect())
            };
            samples.push(scaled(Linear::plain(layout), 64).in_dtype(1, DType::Nf4));
            let full = Linear { layout, alpha: 0.5, bias: true, residual: true, low_rank: None };
            let full = scaled(full, w[1]).normal([fan_out]).normal([1, rows, fan_out]);
            samples.extend([scaled(Linear::plain(layout), w[1]), full].map(|sample| sample.in_dtype(1, DType::Int8)));
        }
    }
    samples
}
