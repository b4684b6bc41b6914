//! Samples of the model in training: its texts continued by plans that are loaded beside the step, in the same arena and on
//! the same parameters. Invariant: sampling changes nothing that training reads.

use crate::generate::decoding::{Decoding, Ending, Request};
use crate::generate::sample_texts::SampleTexts;
use crate::run::sample_log::Sample;
use crate::{TextStream, TrainError};
use remat_step::LoadedStep;

/// Texts with the plans that continue them.
pub(crate) struct Sampler {
    texts: SampleTexts,
    decoding: Decoding,
    /// Updates between two samples.
    pub(crate) every: u64,
}

impl Sampler {
    /// Of a step that was loaded with the plans of generation; once in an epoch where nothing else is said.
    pub(crate) fn of(texts: SampleTexts, step: &mut LoadedStep, per_epoch: u64) -> Result<Self, TrainError> {
        let decoding = Decoding::of(&step.forwards(), texts.shape, texts.vocabulary())?;
        Ok(Sampler { every: texts.every.unwrap_or(per_epoch), texts, decoding })
    }

    /// How many texts there are.
    pub(crate) fn count(&self) -> usize {
        self.texts.texts.len()
    }

    /// Continues text `index` by the parameters as they are after update `step`.
    pub(crate) fn sample(
        &mut self,
        index: usize,
        loaded: &mut LoadedStep,
        (step, epoch): (u64, f64),
    ) -> Result<Sample, TrainError> {
        let SampleTexts { sampling, stop, max_tokens, .. } = &self.texts;
        let prompt = &self.texts.texts[index];
        // What is in the caches was computed by other parameters.
        self.decoding.forget();
        let request = Request { prompt: &prompt.ids, max_tokens: *max_tokens, sampling: *sampling, stop };
        let continuation = self.decoding.generate(&mut loaded.forwards(), &request, &mut |_| true)?;
        let written = |problem| TrainError::BadFlag { key: "sample", problem };
        let mut stream = TextStream::after(self.texts.tokenizer(), &prompt.ids);
        let mut text = String::new();
        for &id in &continuation.tokens {
            text.push_str(&stream.push(id).map_err(written)?);
        }
        text.push_str(&stream.finish().map_err(written)?);
        let is_whole = continuation.ending == Ending::Stopped;
        let tokens = continuation.tokens.len();
        Ok(Sample { step, epoch, prompt: prompt.text.clone(), text, tokens, is_whole })
    }
}
