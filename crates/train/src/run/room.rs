//! A disk that is full when a run writes: the run says so, waits for room and goes on, for what it has computed is worth
//! more than its time.
//!
//! Invariant: what is tried again leaves nothing behind where it fails, and it is tried as a whole. A run that was asked to stop, or
//! that has waited as long as it may, ends with the error; its saves are what they were.

use crate::TrainError;
use crate::run::report::Event;
use crate::run::under_way::Run;
use remat_formats::free_bytes;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often it is looked whether there is more room.
const LOOK: Duration = Duration::from_millis(100);
/// After so long it is tried again though there seems to be no more: quotas are seen by trying alone.
const TRY_AGAIN: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Does something that needs room on the disk, again once there is more.
    pub(crate) fn with_room<T>(
        &mut self,
        act: &mut dyn FnMut(&mut Self) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let mut until: Option<Instant> = None;
        loop {
            let error = match act(self) {
                Err(error) if error.is_disk_full() => error,
                done => {
                    if until.is_some() && done.is_ok() {
                        self.reporter.report(Event::Note("there is room on the disk again: the run goes on"));
                    }
                    return done;
                }
            };
            let is_asked_to_stop = self.interrupt.load(Ordering::Relaxed);
            if until.is_none() && !self.disk_wait.is_zero() && !is_asked_to_stop {
                self.say_that_it_waits(&error);
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.disk_wait);
            if !self.comes_to_room(until) {
                return Err(error);
            }
        }
    }

    fn say_that_it_waits(&mut self, error: &TrainError) {
        let seconds = self.disk_wait.as_secs();
        let problem = match error {
            TrainError::NotSaved { source } => source.to_string(),
            other => other.to_string(),
        };
        let note =
            format!("the disk is full ({problem}): the run waits up to {seconds} s for room; an interrupt ends it");
        self.reporter.report(Event::Note(&note));
    }

    /// Waits for more room; false if there is none until then, or the run is to stop.
    fn comes_to_room(&self, until: Instant) -> bool {
        let free = || free_bytes(&self.session.config.out);
        let (before, try_again) = (free(), Instant::now() + TRY_AGAIN);
        loop {
            let now = Instant::now();
            if now >= until || self.interrupt.load(Ordering::Relaxed) {
                return false;
            }
            if now >= try_again || free() > before {
                return true;
            }
            std::thread::sleep(LOOK.min(until - now));
        }
    }
}
