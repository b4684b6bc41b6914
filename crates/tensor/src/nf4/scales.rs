//! Double quantisation: scales in 8 bits, by the signed dynamic map of Dettmers, *8-bit optimizers*, 2022.
//!
//! Scales less their mean are divided by the largest magnitude of 256 of them, and each quotient gets the index of a
//! number of the map. Which one is bitsandbytes' own rule on the CPU: the quotient is first rounded to one of 65536 steps of
//! [-1, 1], and the step has its nearest number in a table. (For quotients near zero that is not the number nearest to
//! the quotient; what is lost is below 2e-5 of the largest scale.)

use super::mean::mean;
use crate::dynamic_map::numbers;
use std::sync::OnceLock;

/// Scales that share a nested scale.
pub const NESTED_BLOCK: usize = 256;

/// Steps of [-1, 1] in the table of nearest numbers.
const STEPS: usize = 1 << 16;

struct Nearest {
    map: [f32; 256],
    of_step: Vec<u8>,
}

fn nearest() -> &'static Nearest {
    static NEAREST: OnceLock<Nearest> = OnceLock::new();
    NEAREST.get_or_init(|| {
        let map = numbers(true);
        let step = |index: usize| index as f32 / (STEPS - 1) as f32 * 2.0 - 1.0;
        let boundary = |index: usize| (map[index] + map[index + 1]) / 2.0;
        let mut code = 0;
        let of_step = (0..STEPS).map(|index| {
            while code < 255 && boundary(code) < step(index) {
                code += 1;
            }
            code as u8
        });
        Nearest { map, of_step: of_step.collect() }
    })
}

/// What 8-bit scales stand for, as this crate quantises them; files bring their own copy.
pub fn nested_map() -> &'static [f32; 256] {
    &nearest().map
}

/// Quantises scales: writes one byte each and one nested scale per 256, and returns the offset.
pub(super) fn quantise_scales(absmax: &mut [f32], codes: &mut [u8], mut nested: impl FnMut(usize, f32)) -> f32 {
    let offset = mean(absmax);
    absmax.iter_mut().for_each(|scale| *scale -= offset);
    let of_step = &nearest().of_step;
    for (block, (scales, codes)) in absmax.chunks(NESTED_BLOCK).zip(codes.chunks_mut(NESTED_BLOCK)).enumerate() {
        let largest = scales.iter().fold(0.0, |most: f32, scale| most.max(scale.abs()));
        nested(block, largest);
        let factor = 1.0 / largest;
        for (code, scale) in codes.iter_mut().zip(scales) {
            // All scales of the block equal the mean: bitsandbytes writes the first code, and 0 times it is 0.
            *code = if largest == 0.0 { 0 } else { of_step[step_of((scale * factor).clamp(-1.0, 1.0))] };
        }
    }
    offset
}

fn step_of(quotient: f32) -> usize {
    ((quotient + 1.0) * 0.5 * (STEPS - 1) as f32 + 0.5) as usize
}
