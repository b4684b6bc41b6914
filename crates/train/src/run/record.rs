//! The lab record of a finished run. Invariant: it says what was run and what came of it, so it is written last.

use crate::TrainError;
use crate::folder::file_names::{BEST_FOLDER, RECORD_FILE};
use crate::record::lab_record::{BestRecord, ModelRecord, Observed, RankRecord, Record, RecordKind, data_records};
use crate::record::program::build;
use crate::run::report::Event;
use crate::run::under_way::Run;

impl Run<'_> {
    /// Writes the lab record of a finished run. Files that changed while it went are named, and no failure.
    pub(crate) fn write_record(&mut self) -> Result<Record, TrainError> {
        for path in self.session.model.changed_files() {
            let note =
                format!("{} was written to while this run went; it may not be any more what was read", path.display());
            self.reporter.report(Event::Note(&note));
        }
        let best = self.held_out.as_ref().and_then(|held_out| held_out.best);
        let session = &self.session;
        let (remat_version, commit, build) = build();
        let facts = &session.facts;
        let record = Record {
            schema: 1,
            kind: RecordKind::Train,
            remat_version,
            commit,
            build,
            started_at: self.started_at.clone(),
            machine: facts.machine.clone(),
            model: ModelRecord::of(&session.model, session.config.preset.as_deref(), facts.total_parameters),
            data: data_records(session.loader.dataset().stats()),
            config: session.config.clone(),
            plan: facts.plan.clone(),
            observed: Observed {
                steps: session.made_updates,
                first_loss: self.first_loss,
                last_loss: self.last_loss,
                last_val_loss: self.last_val_loss,
                best: best.map(|evaluation| BestRecord { path: BEST_FOLDER, evaluation }),
                stopped_after: self.stopped_after(),
                peak_bytes: self.peaks.highest(),
                planned_peak_bytes: session.planned_peak_bytes,
                seconds: self.seconds,
                tokens_per_second: if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 },
            },
            bound_by: facts.bound_by.clone(),
            ranks: self.ranks.as_ref().map_or_else(Vec::new, |ranks| rank_records(ranks.hosts())),
            profile: None,
            answers: None,
        };
        let out = session.config.out.clone();
        let written = self.with_room(&mut |run| {
            run.folder.list_record()?;
            record.write(&out)
        });
        let no_record = |error: TrainError| TrainError::NoRecord {
            out: out.clone(),
            what: RECORD_FILE,
            problem: error.to_string(),
        };
        written.map_err(no_record)?;
        Ok(record)
    }
}

/// The ranks of these hosts.
fn rank_records(hosts: &[String]) -> Vec<RankRecord> {
    hosts.iter().enumerate().map(|(rank, host)| RankRecord { rank, host: host.clone() }).collect()
}
