//! The best of a run beside its end: where it begins, what it comes to, and why a run stops before its last update.

use crate::Best;
use crate::folder::file_names::BEST_FOLDER;
use crate::run::held_out::HeldOut;
use crate::run::report::Event;
use crate::run::under_way::Run;

impl Run<'_> {
    /// Where nothing whole is left in `best/`, the search for it begins anew.
    pub(crate) fn find_best(&mut self) {
        if let Some(held_out) = self.held_out.as_mut().filter(|held_out| held_out.best.is_some())
            && self.best.read().is_none()
        {
            *held_out = HeldOut::of(std::mem::take(&mut held_out.rows));
            let path = self.best.path();
            let note = format!("{} is not whole any more: the next evaluation is the best again", path.display());
            self.reporter.report(Event::Note(&note));
        }
    }

    /// Says what is in `best/`, if that is not of this run: one that was killed may have got further before.
    pub(crate) fn settle_best(&mut self) {
        let Some(held_out) = self.held_out.as_mut().filter(|_| !self.best.was_written()) else { return };
        let found = self.best.read();
        if let (Some(Best { step, .. }), true) = (found, found != held_out.best) {
            let note = format!("{BEST_FOLDER} is of update {step} of a run that was not gone on with");
            self.reporter.report(Event::Note(&note));
        }
        held_out.best = found;
    }

    /// Says why there are updates that were not made, if there are.
    pub(crate) fn note_early_stop(&mut self) {
        let best = self.held_out.as_ref().and_then(|held_out| held_out.best);
        if let (Some(evaluations), Some(Best { step, val_loss, .. })) = (self.stopped_after(), best) {
            let (made, total) = (self.session.made_updates, self.session.total_updates);
            let note = format!(
                "stopped after {made} of {total} updates: {evaluations} evaluations in a row were no better than \
                 {val_loss:.4} after update {step}, which is kept in {BEST_FOLDER}/"
            );
            self.reporter.report(Event::Note(&note));
        }
    }
}
