//! `route`: which experts each token goes to, and where its rows lie when rows are sorted by expert. Shazeer et al.,
//! *Outrageously large neural networks*, 2017; the choice is `torch.topk`'s.
//!
//! Operand: scores f32 [.., E], one row for each of N tokens. Results, all i32: `experts` [.., k], the k highest scores of each
//! token, highest first, of equal ones the lowest expert first, NaN above all numbers; `order` [N·k], the choices n·k + j sorted by
//! expert, those of one expert in their own order; `tokens` [N·k], the token n of each of these; `ends` [E], where each expert's rows
//! end among them. No token is dropped and none is added, so that all sizes are known beforehand.
//! A choice is a decision: it is made once and kept, never made again for backward.

use super::{OpDef, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Attributes of `route`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// k: experts of each token.
    pub experts_per_token: usize,
}

/// The higher score first, NaN above all.
fn descending(a: f64, b: f64) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

impl OpDef for Route {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let scores = inputs[0];
        if scores.dtype != DType::F32 || scores.shape.is_empty() {
            return Err(format!("scores {scores} must be f32 with at least one axis"));
        }
        let (experts, each) = (scores.shape.last(), self.experts_per_token);
        if each == 0 || each > experts {
            return Err(format!(
                "attribute experts_per_token = {each} must be from 1 to the {experts} experts of {scores}"
            ));
        }
        let rows = scores.shape.rows().checked_mul(each).filter(|&rows| i32::try_from(rows).is_ok());
        let Some(rows) = rows else {
            return Err(format!("{each} rows for each token of {scores} are too many to be numbered"));
        };
        let int = |shape: &[usize]| Type::new(DType::I32, shape);
        Ok(vec![Type::new(DType::I32, scores.shape.with_last(each)), int(&[rows]), int(&[rows]), int(&[experts])])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["experts", "order", "tokens", "ends"][index]
    }

    fn is_decision(&self) -> bool {
        true
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("route", "a choice has none; take the chosen scores with take_along_axis"))
    }

    /// Each token looks at every score once for each choice.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new((self.experts_per_token * inputs[0].shape.numel()) as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (scores, each) = (inputs[0], self.experts_per_token);
        let experts = scores.shape.last();
        let mut chosen = Vec::with_capacity(scores.rows() * each);
        for n in 0..scores.rows() {
            let row = scores.row(n);
            let mut ranked: Vec<usize> = (0..experts).collect();
            ranked.sort_by(|&a, &b| descending(row[a], row[b]));
            chosen.extend_from_slice(&ranked[..each]);
        }
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&choice| chosen[choice]);
        let ends = (0..experts).map(|expert| chosen.iter().filter(|&&other| other <= expert).count());
        let tokens = order.iter().map(|choice| choice / each).collect();
        let all = [chosen.clone(), order.clone(), tokens, ends.collect::<Vec<usize>>()];
        let array = |(numbers, ty): (Vec<usize>, &&Type)| {
            Array::new(ty.shape.clone(), numbers.into_iter().map(|number| number as f64).collect())
        };
        all.into_iter().zip(results).map(array).collect()
    }

    fn samples() -> Vec<Sample> {
        let of = |experts_per_token| Sample::new(Route { experts_per_token });
        vec![
            of(2).normal([2, 7, 5]),
            of(1).normal([9, 3]),
            of(4).normal([33, 4]),
            of(1).normal([1]),
            // Ties, and an expert that no token chooses.
            of(2).f32([3, 4], vec![0.5, 0.5, 0.0, 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 0.0, -1.0, 2.0]),
        ]
    }
}
