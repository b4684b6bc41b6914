//! When a run samples: before its first update, after every so many, and after its last.

use crate::run::report::Event;
use crate::run::under_way::Run;
use crate::{RunPhase, TrainError};

impl Run<'_> {
    /// Continues the texts of the settings, if it is time for it and they have not been continued after this update.
    pub(crate) fn sample(&mut self, epoch: f64) -> Result<(), TrainError> {
        let (step, is_last) = (self.session.made_updates, !self.goes_on());
        let (Some(sampler), Some(log)) = (&mut self.session.samples, &self.samples) else { return Ok(()) };
        if log.has(step) || !(is_last || step.is_multiple_of(sampler.every)) {
            return Ok(());
        }
        self.peaks.begin();
        let loaded = &mut self.session.step.loaded;
        let samples = (0..sampler.count()).map(|index| sampler.sample(index, loaded, (step, epoch)));
        let samples = samples.collect::<Result<Vec<_>, _>>()?;
        self.with_room(&mut |run| run.samples.as_mut().map_or(Ok(()), |log| log.append(&samples)))?;
        self.peaks.end(RunPhase::Evaluation);
        samples.iter().for_each(|sample| self.reporter.report(Event::Sampled(sample)));
        Ok(())
    }
}
