//! A loaded model with caches: chunks of prompts and single tokens in, logits out, for as many texts as it was planned for.
//!
//! Invariant: a text is a row of every input, cache and result, and no bit of its row depends on the others.

use super::decoding::{DECODE, PREFILL, batch_shape};
use super::forward;
use crate::TrainError;
use remat_model::{CacheShape, Model};
use remat_plan::SourceId;
use remat_step::{DeviceOptions, LoadedForward};
use std::path::Path;

/// A model that reads tokens into its caches.
pub(super) struct CachedModel {
    loaded: LoadedForward,
    /// Ids and positions of a chunk of each prompt, and of one token of each text.
    prompt: [SourceId; 2],
    token: [SourceId; 2],
    shape: CacheShape,
    vocabulary: usize,
    /// Of the last token of each text, row by row.
    logits: Vec<f32>,
}

impl CachedModel {
    /// Loads a model, with a PEFT adapter if one is given, and caches for `batch` texts of `capacity` tokens each.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other; more tokens than the model has positions; too little memory.
    pub(super) fn open(
        model: &Model,
        adapter: Option<&Path>,
        batch: usize,
        capacity: usize,
        options: DeviceOptions,
    ) -> Result<Self, TrainError> {
        let method = forward::method(model, adapter)?;
        let shape = batch_shape(batch, capacity);
        let mut loaded = forward::load_cached(model, adapter, method.as_ref(), shape, options)?;
        let plans = loaded.forwards();
        let prompt = [plans.input("prompt.ids")?, plans.input("prompt.positions")?];
        let token = [plans.input("token.ids")?, plans.input("token.positions")?];
        let vocabulary = model.config().vocab_size;
        let logits = vec![0.0; batch * vocabulary];
        Ok(CachedModel { loaded, prompt, token, shape, vocabulary, logits })
    }

    pub(super) fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Bytes allocated for arena, weights, adapter and caches.
    pub(super) fn allocated_bytes(&self) -> usize {
        let memory = self.loaded.memory();
        memory.in_domain(memory.domain)
    }

    /// Writes keys and values of a chunk of each text, [B, T] ids at [B, T] positions.
    pub(super) fn prefill(&mut self, ids: &[i32], positions: &[i32]) -> Result<(), TrainError> {
        let mut plans = self.loaded.forwards();
        plans.write(self.prompt[0], ids)?;
        plans.write(self.prompt[1], positions)?;
        Ok(plans.run(PREFILL)?)
    }

    /// Reads one token of each text, [B] ids at [B] positions; the logits are of what may follow.
    pub(super) fn decode(&mut self, ids: &[i32], positions: &[i32]) -> Result<(), TrainError> {
        let mut plans = self.loaded.forwards();
        plans.write(self.token[0], ids)?;
        plans.write(self.token[1], positions)?;
        plans.run(DECODE)?;
        Ok(plans.read_output(DECODE, "logits", &mut self.logits)?)
    }

    /// The logits of text `row`, as [`decode`](Self::decode) has left them.
    pub(super) fn logits(&self, row: usize) -> &[f32] {
        &self.logits[row * self.vocabulary..(row + 1) * self.vocabulary]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, device_options};
    use remat_model::Precision;

    fn text(length: usize) -> Vec<i32> {
        (0..length as i32).map(|at| (3 + at * at + 11 * at) % 140).collect()
    }

    /// The logits behind a text that is read alone, in chunks.
    fn alone(model: &mut CachedModel, text: &[i32]) -> Vec<u32> {
        let (chunk, before) = (model.shape().chunk, text.len() - 1);
        for start in (0..before).step_by(chunk) {
            let start = start.min(before.saturating_sub(chunk));
            let ids: Vec<i32> = (start..start + chunk).map(|at| text.get(at).copied().unwrap_or(0)).collect();
            let positions: Vec<i32> = (start..start + chunk).map(|at| at as i32).collect();
            model.prefill(&ids, &positions).expect("reads");
        }
        model.decode(&text[before..], &[before as i32]).expect("reads");
        bits(model.logits(0))
    }

    fn bits(logits: &[f32]) -> Vec<u32> {
        logits.iter().map(|logit| logit.to_bits()).collect()
    }

    #[test]
    fn the_bits_of_a_text_are_the_same_beside_others_and_token_by_token() {
        let cases = [("llama-gqa-tied", Precision::F32), ("gpt2", Precision::Bf16), ("mistral", Precision::Bf16)];
        for ((case, precision), isa) in cases.into_iter().flat_map(|case| [(case, None), (case, Some(Isa::Portable))]) {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(case);
            let model = Model::open(&folder).expect("a model").in_precision(precision);
            let open = |batch| {
                let options = device_options(Some(2), isa).expect("a device");
                CachedModel::open(&model, None, batch, 60, options).expect("loads")
            };
            let (mut one, mut four) = (open(1), open(4));
            let texts = [9, 1, 51, 30].map(text);
            let expected: Vec<Vec<u32>> = texts.iter().map(|text| alone(&mut one, text)).collect();
            for at in 0..51 {
                // A text that has ended repeats its last token.
                let places = texts.each_ref().map(|text| at.min(text.len() - 1));
                let ids: Vec<i32> = texts.iter().zip(places).map(|(text, place)| text[place]).collect();
                four.decode(&ids, &places.map(|place| place as i32)).expect("reads");
            }
            for (row, expected) in expected.iter().enumerate() {
                assert_eq!(&bits(four.logits(row)), expected, "{case} {precision:?} {isa:?}: text {row}");
            }
            assert_ne!(expected[0], expected[2], "{case}: other texts have other logits");
        }
    }
}
