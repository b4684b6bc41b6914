//! Why a loss is no number: the parameters are none any more, one sample gives it, or every sample does, which is the
//! rate's doing or, before anything was trained, the weights'.
//!
//! Each line of the update is run alone, the others masked. If all fail, the next update's are, so that a sample is told from
//! a rate even where an update is one sample. Invariant: it is asked once, by a run that ends with its answer, so it may leave
//! gradients as they come.

use crate::TrainError;
use crate::run::finite;
use crate::run::under_way::Run;
use remat_data::{SequenceId, UpdateBatch};

/// Samples of the next update that are looked at: one that gives a number is enough.
const MOST_OTHERS: usize = 8;

/// The lines of an update.
struct Lines {
    /// Those whose loss is no number, in order, with that.
    bad: Vec<(SequenceId, f64)>,
    /// How many have one.
    good: usize,
}

impl Run<'_> {
    /// The refusal of update `step`, whose loss is `value`.
    pub(crate) fn blamed(&mut self, batch: &UpdateBatch, step: u64, value: f64) -> TrainError {
        let (made, last_save) = (self.session.made_updates, self.saves.newest_known());
        let device = self.session.step.loaded.device();
        if let Err(error) = finite::check(&self.states, device, made, last_save.clone()) {
            return error;
        }
        match self.told_apart(batch) {
            Ok(Some((sample, value, others))) => TrainError::BadSample { step, sample, others, value, last_save },
            Ok(None) if made == 0 => TrainError::NeverANumber { value },
            // What cannot be found out is no reason to say less.
            Ok(None) | Err(_) => TrainError::NotFinite { step, what: "loss", value },
        }
    }

    /// The first sample whose loss is no number while that of others is one, its loss, and how many more there are.
    fn told_apart(&mut self, batch: &UpdateBatch) -> Result<Option<(String, f64, usize)>, TrainError> {
        let Lines { bad, mut good } = self.lines(batch, usize::MAX)?;
        let Some(&(first, value)) = bad.first() else { return Ok(None) };
        if good == 0 {
            let mut next = self.session.loader.update_buffer();
            self.session.loader.next_update(&mut next)?;
            good = self.lines(&next, MOST_OTHERS)?.good;
        }
        if good == 0 {
            return Ok(None);
        }
        Ok(Some((self.named(first)?, value, bad.len() - 1)))
    }

    fn lines(&mut self, batch: &UpdateBatch, most: usize) -> Result<Lines, TrainError> {
        let session = &mut self.session;
        let mut lines = Lines { bad: Vec::new(), good: 0 };
        let all = (0..batch.micro_batches())
            .flat_map(|micro| batch.sequences(micro).iter().enumerate().map(move |(line, &id)| (micro, line, id)));
        for (micro, line, id) in all.take(most) {
            let loss = session.step.loss_of_line(&session.loader, batch, (micro, line), session.made_updates)?;
            match loss.is_finite() {
                true => lines.good += 1,
                false => lines.bad.push((id, loss)),
            }
        }
        Ok(lines)
    }

    /// The samples of a line, by their files.
    fn named(&self, line: SequenceId) -> Result<String, TrainError> {
        let loader = &self.session.loader;
        let name = |sample| match loader.dataset().origin(sample) {
            Some((file, number)) => format!("sample {number} of {}", file.display()),
            None => "a sample".to_string(),
        };
        Ok(loader.sequences().samples(line)?.map(name).collect::<Vec<_>>().join(", "))
    }
}
