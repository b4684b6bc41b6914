//! AdamW whose moments are 8-bit codes of the dynamic maps, with one f32 scale per block of 256 elements.
//!
//! Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, 2022. A task decodes whole blocks into registers'
//! reach, updates parameter and moments in f32 as `adamw`, and encodes the moments anew; so no thread count changes a bit.
//! No operation is fused, so that every level makes the same codes. p and g are read and written, 12 bytes per element,
//! and 4 bytes of codes (`adamw`: 28 in all). With vectors of integers a product and a sum find codes, and hardly any has
//! to be looked up; the portable level looks all of them up in a table, one by one, and that bounds the op there.

use super::adamw::AdamW;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::ops::MOMENT_BLOCK;
use remat_tensor::DynamicMap;

/// Blocks per task: 64 KiB of f32.
const BLOCKS_PER_TASK: usize = 64;

/// One moment of every element: codes, and the largest magnitude of each block.
pub struct Moments<'a> {
    /// One code per element.
    pub codes: &'a mut [u8],
    /// One scale per block of 256 elements.
    pub absmax: &'a mut [f32],
}

/// The factors of one update, each rounded to f32 once.
struct Factors {
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    inverse_root_correction: f32,
    eps: f32,
    step_size: f32,
    grad_scale: f32,
}

impl Factors {
    fn new(update: &AdamW) -> Self {
        let [beta1, beta2] = update.betas;
        let t = i32::try_from(update.step).unwrap_or(i32::MAX);
        Factors {
            decay: (1.0 - update.lr * update.weight_decay) as f32,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            inverse_root_correction: (1.0 / (1.0 - beta2.powi(t)).sqrt()) as f32,
            eps: update.eps as f32,
            step_size: (update.lr / (1.0 - beta1.powi(t))) as f32,
            grad_scale: update.grad_scale,
        }
    }
}

/// The addresses of one moment, and its map.
struct Stored<'a> {
    codes: Out<'a, u8>,
    absmax: Out<'a, f32>,
    map: &'static DynamicMap,
}

struct Update<'a> {
    factors: Factors,
    len: usize,
    p: Out<'a, f32>,
    g: Out<'a, f32>,
    m: Stored<'a>,
    v: Stored<'a>,
}

impl Kernel for Update<'_> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let blocks = self.len.div_ceil(MOMENT_BLOCK);
        for block in task * BLOCKS_PER_TASK..((task + 1) * BLOCKS_PER_TASK).min(blocks) {
            unsafe { self.block::<S>(block) };
        }
    }
}

/// One block's elements, `MOMENT_BLOCK` of each.
struct Block {
    p: *mut f32,
    g: *mut f32,
    m_codes: *mut u8,
    v_codes: *mut u8,
}

impl Update<'_> {
    /// # Safety
    /// The block exists and nobody else touches it.
    #[inline(always)]
    unsafe fn block<S: Simd>(&self, block: usize) {
        let from = block * MOMENT_BLOCK;
        let len = MOMENT_BLOCK.min(self.len - from);
        let whole = Block {
            p: self.p.at(from),
            g: self.g.at(from),
            m_codes: self.m.codes.at(from),
            v_codes: self.v.codes.at(from),
        };
        unsafe {
            if len == MOMENT_BLOCK {
                return self.elements::<S>(block, &whole, len);
            }
            // The last block goes through one that is whole.
            let (mut p, mut g) = ([0.0; MOMENT_BLOCK], [0.0; MOMENT_BLOCK]);
            let (mut m_codes, mut v_codes) = ([0; MOMENT_BLOCK], [0; MOMENT_BLOCK]);
            std::ptr::copy_nonoverlapping(whole.p, p.as_mut_ptr(), len);
            std::ptr::copy_nonoverlapping(whole.g, g.as_mut_ptr(), len);
            std::ptr::copy_nonoverlapping(whole.m_codes, m_codes.as_mut_ptr(), len);
            std::ptr::copy_nonoverlapping(whole.v_codes, v_codes.as_mut_ptr(), len);
            let padded = Block {
                p: p.as_mut_ptr(),
                g: g.as_mut_ptr(),
                m_codes: m_codes.as_mut_ptr(),
                v_codes: v_codes.as_mut_ptr(),
            };
            self.elements::<S>(block, &padded, len);
            std::ptr::copy_nonoverlapping(p.as_ptr(), whole.p, len);
            std::ptr::copy_nonoverlapping(g.as_ptr(), whole.g, len);
            std::ptr::copy_nonoverlapping(m_codes.as_ptr(), whole.m_codes, len);
            std::ptr::copy_nonoverlapping(v_codes.as_ptr(), whole.v_codes, len);
        }
    }

    /// Updates a whole block, of which `len` elements exist; the others count as moments of 0.
    #[inline(always)]
    unsafe fn elements<S: Simd>(&self, block: usize, of: &Block, len: usize) {
        let (mut m, mut v) = ([0.0; MOMENT_BLOCK], [0.0; MOMENT_BLOCK]);
        let by = &self.factors;
        unsafe {
            // SAFETY: the scales of this block, which is this task's own.
            let (m_absmax, v_absmax) = (&mut *self.m.absmax.at(block), &mut *self.v.absmax.at(block));
            S::look_up_numbers(self.m.map, of.m_codes, &mut m);
            S::look_up_numbers(self.v.map, of.v_codes, &mut v);
            let (mut m_range, mut v_range) = (Range::<S>::of_zero(), Range::<S>::of_zero());
            for i in (0..MOMENT_BLOCK).step_by(S::LANES) {
                let (at_m, at_v, at_p) = (m.as_mut_ptr().add(i), v.as_mut_ptr().add(i), of.p.add(i));
                let times = |x: S::V, factor: f32| S::mul(x, S::splat(factor));
                let g = times(S::load(of.g.add(i)), by.grad_scale);
                let old_m = times(S::load(at_m), *m_absmax);
                let m = S::add(times(old_m, by.beta1), times(g, by.one_minus_beta1));
                let old_v = times(S::load(at_v), *v_absmax);
                let v = S::add(times(old_v, by.beta2), times(S::mul(g, g), by.one_minus_beta2));
                let root = S::add(times(S::sqrt(v), by.inverse_root_correction), S::splat(by.eps));
                let step = S::div(S::mul(S::splat(by.step_size), m), root);
                S::store(at_p, S::sub(times(S::load(at_p), by.decay), step));
                S::store(of.g.add(i), S::splat(0.0));
                S::store(at_m, m);
                S::store(at_v, v);
                (m_range, v_range) = (m_range.with(m), v_range.with(v));
            }
            if len < MOMENT_BLOCK {
                m[len..].fill(0.0);
                v[len..].fill(0.0);
                (m_range, v_range) = (Range::of(&m), Range::of(&v));
            }
            self.fetch::<S, f32>(&self.p, block + 1);
            self.fetch::<S, u8>(&self.m.codes, block + 1);
            *m_absmax = encode::<S>(self.m.map, &m, m_range, of.m_codes);
            self.fetch::<S, f32>(&self.g, block + 1);
            self.fetch::<S, u8>(&self.v.codes, block + 1);
            *v_absmax = encode::<S>(self.v.map, &v, v_range, of.v_codes);
        }
    }

    /// Asks for a block of an array, if it is whole: while codes are computed, memory would be idle.
    #[inline(always)]
    unsafe fn fetch<S: Simd, T>(&self, array: &Out<'_, T>, block: usize) {
        let from = block * MOMENT_BLOCK;
        if from + MOMENT_BLOCK <= self.len {
            for line in 0..MOMENT_BLOCK * size_of::<T>() / LINE {
                unsafe { S::fetch(array.at(from).cast::<u8>().add(line * LINE)) };
            }
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// What moments lie between; 0 is among them.
struct Range<S: Simd> {
    least: S::V,
    most: S::V,
    /// A sum of all, each times 0: not 0 if one is infinite or not a number.
    nothing: S::V,
}

impl<S: Simd> Range<S> {
    #[inline(always)]
    unsafe fn of_zero() -> Self {
        let zero = unsafe { S::splat(0.0) };
        Range { least: zero, most: zero, nothing: zero }
    }

    #[inline(always)]
    unsafe fn of(moments: &[f32; MOMENT_BLOCK]) -> Self {
        unsafe {
            let mut range = Self::of_zero();
            for i in (0..MOMENT_BLOCK).step_by(S::LANES) {
                range = range.with(S::load(moments.as_ptr().add(i)));
            }
            range
        }
    }

    /// The range with more moments. NaN is passed over but for `nothing`.
    #[inline(always)]
    unsafe fn with(self, x: S::V) -> Self {
        unsafe {
            Range {
                least: S::min(x, self.least),
                most: S::max(x, self.most),
                nothing: S::fma(x, S::splat(0.0), self.nothing),
            }
        }
    }

    /// The largest magnitude.
    #[inline(always)]
    unsafe fn largest(&self) -> f32 {
        unsafe { S::fold_max(S::max(self.most, S::sub(S::splat(0.0), self.least))) }
    }

    /// Whether all are finite.
    #[inline(always)]
    unsafe fn is_finite(&self) -> bool {
        unsafe { S::sum(self.nothing) == 0.0 }
    }
}

/// Writes codes and returns the scale. A moment that is not a number makes the scale NaN, so that it is not forgotten.
#[inline(always)]
unsafe fn encode<S: Simd>(map: &DynamicMap, moments: &[f32; MOMENT_BLOCK], range: Range<S>, codes: *mut u8) -> f32 {
    unsafe {
        if !range.is_finite() && moments.iter().any(|x| x.is_nan()) {
            return f32::NAN;
        }
        let largest = range.largest();
        let divisor = if largest == 0.0 { 1.0 } else { largest };
        // As bitsandbytes: a negative moment keeps its sign.
        let zero_code = map.code(0.0);
        S::nearest_codes(map, zero_code, moments, divisor, codes);
        largest
    }
}

/// Updates `p` and the moments in place, then sets the gradient to zero. Formulas as in `adamw`; p moves by the moments
/// before they are rounded to codes.
pub fn adamw8bit(pool: &ThreadPool, update: AdamW, p: &mut [f32], g: &mut [f32], m: Moments<'_>, v: Moments<'_>) {
    let len = p.len();
    let blocks = len.div_ceil(MOMENT_BLOCK);
    assert_eq!([g.len(), m.codes.len(), v.codes.len()], [len; 3], "adamw8bit: parameter, gradient and moments differ");
    assert_eq!([m.absmax.len(), v.absmax.len()], [blocks; 2], "adamw8bit: one scale per block");
    assert!(update.step > 0, "adamw8bit: the first step is 1");
    let stored = |moments, map| {
        let Moments { codes, absmax } = moments;
        Stored { codes: Out::new(codes), absmax: Out::new(absmax), map }
    };
    let kernel = Update {
        factors: Factors::new(&update),
        len,
        p: Out::new(p),
        g: Out::new(g),
        m: stored(m, DynamicMap::signed()),
        v: stored(v, DynamicMap::unsigned()),
    };
    launch(pool, blocks.div_ceil(BLOCKS_PER_TASK), &kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_level, normals};

    /// More than one task, and a last block that is cut off.
    const LEN: usize = 70 * MOMENT_BLOCK + 13;
    const BLOCKS: usize = 71;

    fn at(step: u64) -> AdamW {
        AdamW { lr: 1e-2, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1, step, grad_scale: 0.5 }
    }

    /// Gradients of very different sizes; the third block's are all zero.
    fn gradient(step: u64) -> Vec<f32> {
        let sizes = normals(LEN, 20);
        let scaled = normals(LEN, 10 + step).into_iter().zip(sizes).map(|(g, size)| g * (3.0 * size).exp());
        scaled.enumerate().map(|(i, g)| if i / MOMENT_BLOCK == 2 { 0.0 } else { g }).collect()
    }

    /// The code of the nearest number, searched for among all; a number below 0 keeps its sign if the map has signs.
    fn nearest(known: &[f32; 256], x: f32) -> u8 {
        let passed = |code: &usize| (known[*code] + known[code + 1]) * 0.5 < x;
        let nearest = (0..255).take_while(passed).count() as u8;
        let turned = x < 0.0 && known[usize::from(nearest)] >= 0.0;
        nearest.saturating_sub(u8::from(turned))
    }

    /// Parameter, codes and scales after some updates.
    #[derive(Clone)]
    struct State {
        p: Vec<f32>,
        codes: [Vec<u8>; 2],
        absmax: [Vec<f32>; 2],
    }

    impl State {
        fn new() -> Self {
            State {
                p: normals(LEN, 1),
                codes: [vec![0; LEN], vec![0; LEN]],
                absmax: [vec![0.0; BLOCKS], vec![0.0; BLOCKS]],
            }
        }

        fn update(&mut self, pool: &ThreadPool, by: AdamW, g: &mut [f32]) {
            let State { p, codes: [m, v], absmax: [m_absmax, v_absmax] } = self;
            let m = Moments { codes: m, absmax: m_absmax };
            adamw8bit(pool, by, p, g, m, Moments { codes: v, absmax: v_absmax });
        }

        fn numbers(self) -> Vec<Vec<f32>> {
            let codes = self.codes.map(|codes| codes.into_iter().map(f32::from).collect());
            [vec![self.p], codes.to_vec(), self.absmax.to_vec()].concat()
        }

        /// The definition element by element: the nearest number is searched for among all of them.
        fn update_naively(&mut self, by: &AdamW, g: &[f32]) {
            let maps = [DynamicMap::signed(), DynamicMap::unsigned()].map(DynamicMap::numbers);
            let t = by.step as i32;
            let [b1, b2] = by.betas;
            let mut moments = [vec![0.0f32; LEN], vec![0.0f32; LEN]];
            for i in 0..LEN {
                let old = [0, 1].map(|k| maps[k][usize::from(self.codes[k][i])] * self.absmax[k][i / MOMENT_BLOCK]);
                let g = g[i] * by.grad_scale;
                let m = old[0] * b1 as f32 + g * (1.0 - b1) as f32;
                let v = old[1] * b2 as f32 + g * g * (1.0 - b2) as f32;
                let root = v.sqrt() * (1.0 / (1.0 - b2.powi(t)).sqrt()) as f32 + by.eps as f32;
                let step = (by.lr / (1.0 - b1.powi(t))) as f32 * m / root;
                self.p[i] = self.p[i] * (1.0 - by.lr * by.weight_decay) as f32 - step;
                (moments[0][i], moments[1][i]) = (m, v);
            }
            for k in 0..2 {
                for block in 0..BLOCKS {
                    let range = block * MOMENT_BLOCK..LEN.min((block + 1) * MOMENT_BLOCK);
                    let largest = moments[k][range.clone()].iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    self.absmax[k][block] = largest;
                    for i in range {
                        let x = if largest == 0.0 { 0.0 } else { moments[k][i] / largest };
                        self.codes[k][i] = nearest(maps[k], x);
                    }
                }
            }
        }
    }

    #[test]
    fn three_steps_have_the_bits_and_codes_of_the_definition_at_every_level_and_thread_count() {
        let mut want = State::new();
        (1..=3).for_each(|step| want.update_naively(&at(step), &gradient(step)));
        let used: std::collections::BTreeSet<u8> = want.codes[0].iter().copied().collect();
        assert!(used.len() > 200 && used.contains(&126), "codes all over the map, and the one below 0");
        let want = want.numbers();
        every_level(
            |pool| {
                let mut state = State::new();
                for step in 1..=3 {
                    let mut g = gradient(step);
                    state.update(pool, at(step), &mut g);
                    assert!(g.iter().all(|g| g.to_bits() == 0));
                }
                state.numbers()
            },
            |level, got| {
                for (index, (got, want)) in got.iter().zip(&want).enumerate() {
                    let differs = got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
                    assert_eq!(differs, None, "{level}: array {index}");
                }
            },
        );
    }

    /// Codes of a block in either map.
    struct Codes<'a> {
        numbers: &'a [f32; MOMENT_BLOCK],
        divisor: f32,
        map: &'static DynamicMap,
        codes: Out<'a, f32>,
    }

    impl Kernel for Codes<'_> {
        unsafe fn task<S: Simd>(&self, _: usize, _: &mut Scratch) {
            let mut codes = [0; MOMENT_BLOCK];
            unsafe { S::nearest_codes(self.map, self.map.code(0.0), self.numbers, self.divisor, codes.as_mut_ptr()) };
            codes.iter().enumerate().for_each(|(i, &code)| unsafe { *self.codes.at(i) = f32::from(code) });
        }
    }

    /// Around each boundary of a map, and its numbers, all times a divisor. Behind the last number there is no boundary.
    fn around_boundaries(known: &[f32; 256], sign: f32, divisor: f32) -> Vec<[f32; MOMENT_BLOCK]> {
        let boundary = |i: usize| (known[i] + known[(i + 1).min(255)]) * 0.5;
        let beside =
            |x: f32, places: i32| if x == 0.0 { x } else { f32::from_bits(x.to_bits().wrapping_add_signed(places)) };
        let scaled = |x: f32| sign * x.clamp(-1.0, 1.0) * divisor;
        let near = [-1, 0, 1].map(|places| std::array::from_fn(|i| scaled(beside(boundary(i), places))));
        near.into_iter().chain([known.map(scaled)]).collect()
    }

    #[test]
    fn numbers_and_boundaries_of_either_sign_have_their_nearest_codes_at_every_level() {
        const DIVISOR: f32 = 4.0;
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            let known = map.numbers();
            for numbers in [1.0, -1.0].into_iter().flat_map(|sign| around_boundaries(known, sign, DIVISOR)) {
                let want: Vec<f32> = numbers.iter().map(|x| f32::from(nearest(known, x / DIVISOR))).collect();
                every_level(
                    |pool| {
                        let mut codes = vec![0.0; MOMENT_BLOCK];
                        let kernel = Codes { numbers: &numbers, divisor: DIVISOR, map, codes: Out::new(&mut codes) };
                        launch(pool, 1, &kernel);
                        vec![codes]
                    },
                    |level, got| assert_eq!(got[0], want, "{level}: {numbers:?}"),
                );
            }
        }
    }

    #[test]
    fn a_gradient_that_is_not_a_number_is_not_forgotten() {
        let pool = ThreadPool::new(1);
        let mut state = State::new();
        let mut g = gradient(1);
        g[5] = f32::NAN;
        state.update(&pool, at(1), &mut g);
        assert!(state.p[5].is_nan() && state.p[MOMENT_BLOCK..].iter().all(|p| p.is_finite()));
        assert!(state.absmax.iter().all(|absmax| absmax[0].is_nan() && absmax[1].is_finite()));
    }
}
