//! `adamw8bit`: one step of AdamW on one parameter whose moments are 8-bit codes with one f32 scale per block.
//!
//! Operands: p, g (f32 states of one shape, or as `adamw` has it g of some elements of p), m, v (u8 states of g's shape), m_absmax, v_absmax (f32 states
//! [⌈elements / 256⌉]), lr f32 [1], step i32 [1] counted from 1, grad_scale f32 [1]. Results: the new values of the states.
//! A moment is `map[code] · absmax` of its block, m by the signed dynamic map and v by the unsigned one. p is updated by
//! the new moments before those are rounded, as `adamw` does it. Then each block's absmax is taken, and each moment gets
//! the nearest code; a negative m that is nearest to 0 gets the code below 0. All codes and
//! scales zero stand for moments of zero. Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, 2022;
//! bitsandbytes, which differs in decaying p after its update instead of before, and in passing over infinite gradients.

use super::{AdamW, OpDef, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, DynamicMap};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Elements that share one scale.
pub const MOMENT_BLOCK: usize = 256;

/// Attributes of `adamw8bit`: those of `adamw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdamW8bit(pub AdamW);

impl OpDef for AdamW8bit {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 9)?;
        self.0.check_attributes()?;
        let [p, g] = [inputs[0], inputs[1]];
        self.0.check_part(p, g)?;
        let blocks = [g.shape.numel().div_ceil(MOMENT_BLOCK)];
        typed("g", g, DType::F32, &g.shape)?;
        for (index, name) in ["m", "v"].into_iter().enumerate() {
            typed(name, inputs[2 + index], DType::U8, &g.shape)?;
        }
        for (index, name) in ["m_absmax", "v_absmax"].into_iter().enumerate() {
            typed(name, inputs[4 + index], DType::F32, &blocks)?;
        }
        typed("lr", inputs[6], DType::F32, &[1])?;
        typed("step", inputs[7], DType::I32, &[1])?;
        typed("grad_scale", inputs[8], DType::F32, &[1])?;
        Ok(inputs[..6].iter().map(|&ty| ty.clone()).collect())
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["p", "g", "m", "v", "m_absmax", "v_absmax"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        (0..6).map(|state| (state, state)).collect()
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        Some(vec![1, 1, 1, 1, MOMENT_BLOCK, MOMENT_BLOCK, 0, 0, 0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer8bit
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("adamw8bit", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(32.0, &inputs[1..], &outputs[1..]).with_bytes(2 * inputs[1].bytes())
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let m = decoded(DynamicMap::signed(), inputs[2], inputs[4]);
        let v = decoded(DynamicMap::unsigned(), inputs[3], inputs[5]);
        let full = self.0.eval(&[inputs[0], inputs[1], &m, &v, inputs[6], inputs[7], inputs[8]], &results[..4]);
        let [p, g, m, v] = full.try_into().expect("four results");
        let (m, m_absmax) = encoded(DynamicMap::signed(), &m);
        let (v, v_absmax) = encoded(DynamicMap::unsigned(), &v);
        vec![p, g, m, v, m_absmax, v_absmax]
    }

    /// Moments as earlier updates leave them: codes all over the maps, a block of zeros, and a last block that is cut off.
    fn samples() -> Vec<Sample> {
        let part =
            |whole: &[usize], first, shape: &[usize], (lr, step, grad_scale): (f64, i32, f64), weight_decay: f32| {
                let op = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, first };
                let numel: usize = shape.iter().product();
                let blocks = numel.div_ceil(MOMENT_BLOCK);
                let is_first = step == 1;
                let codes = |factor: usize| {
                    let code = |i: usize| if is_first { 0.0 } else { (i * factor % 251 + 3) as f64 };
                    Array::new(shape, (0..numel).map(code).collect())
                };
                let absmax = |scale: f64| {
                    let of_block = |block: usize| if is_first { 0.0 } else { scale / (block + 1) as f64 };
                    (0..blocks).map(of_block).collect::<Vec<_>>()
                };
                Sample::new(AdamW8bit(op))
                    .normal(whole)
                    .normal(shape)
                    .u8(codes(97))
                    .u8(codes(89))
                    .f32([blocks], absmax(0.3))
                    .f32([blocks], absmax(0.02))
                    .f32([1], vec![lr])
                    .i32([1], vec![step])
                    .f32([1], vec![grad_scale])
            };
        vec![
            part(&[1], 0, &[1], (1e-3, 1, 1.0), 0.0),
            part(&[16, 32], 0, &[16, 32], (2e-4, 1, 0.3), 0.1),
            part(&[33, 19], 0, &[33, 19], (1e-2, 1000, 1.0), 0.01),
            part(&[33, 19], 256, &[300], (1e-2, 1000, 1.0), 0.01),
        ]
    }
}

fn decoded(map: &DynamicMap, codes: &Array, absmax: &Array) -> Array {
    let number = |(i, &code): (usize, &f64)| f64::from(map.numbers()[code as usize]) * absmax.data[i / MOMENT_BLOCK];
    Array::new(codes.shape.clone(), codes.data.iter().enumerate().map(number).collect())
}

/// Codes and scales of moments.
fn encoded(map: &DynamicMap, moments: &Array) -> (Array, Array) {
    let blocks = moments.data.chunks(MOMENT_BLOCK);
    // A moment that is not a number makes the whole block so.
    let larger = |most: f64, x: &f64| if x.is_nan() || most.is_nan() { f64::NAN } else { most.max(x.abs()) };
    let largest = |block: &[f64]| block.iter().fold(0.0, larger);
    let absmax: Vec<f64> = blocks.clone().map(largest).collect();
    let codes = blocks.zip(&absmax).flat_map(|(block, &absmax)| {
        block.iter().map(move |&x| code(map.numbers(), if absmax == 0.0 { 0.0 } else { x / absmax }) as f64)
    });
    (Array::new(moments.shape.clone(), codes.collect()), Array::new([absmax.len()], absmax))
}

/// Index of the number nearest to `x`, of x's sign.
fn code(numbers: &[f32; 256], x: f64) -> usize {
    let boundary = |code: usize| f64::from((numbers[code] + numbers[code + 1]) * 0.5);
    let nearest = (0..255).take_while(|&code| boundary(code) < x).count();
    if x < 0.0 && numbers[nearest] >= 0.0 { nearest - 1 } else { nearest }
}
