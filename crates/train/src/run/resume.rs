//! What a run goes on from: the newest whole save, and settings that go on with it.

use crate::folder::replaced_run::{kept, naming_the_kept};
use crate::folder::saves::Saves;
use crate::folder::snapshot::{self, Resumed, Snapshot};
use crate::run::prepare::Prepared;
use crate::run::report::{Event, Reporter};
use crate::{PrecisionChoice, TrainConfig, TrainError};
use remat_model::{ADAPTER_FILES, MODEL_FILES};
use std::path::Path;

/// Finds the save to go on from and checks that these settings go on with it.
pub(crate) fn resume(
    mut config: TrainConfig,
    saves: &mut Saves,
    reporter: &mut dyn Reporter,
) -> Result<(TrainConfig, Option<Resumed>), TrainError> {
    let (save, notes) = match saves.latest_complete() {
        // Nothing whole is lost: the run ended before its first save.
        Err(TrainError::NothingToResume { out, notes }) if has_nothing_whole(&out) => {
            let out = out.display();
            let note = format!("{out} holds no complete checkpoint-N{notes}: the run starts from the beginning");
            reporter.report(Event::Note(&note));
            return Ok((config, None));
        }
        found => found.map_err(naming_the_kept)?,
    };
    for note in notes {
        reporter.report(Event::Note(&note));
    }
    let Snapshot { config: saved, data, total_updates } = snapshot::read(&save)?;
    // What a run derives from its model is part of its settings from then on.
    config.seq_len = config.seq_len.or(saved.seq_len);
    config.chat_date = config.chat_date.or(saved.chat_date);
    config.chat_template = config.chat_template.or_else(|| saved.chat_template.clone());
    config.chat_template_kwargs = config.chat_template_kwargs.or_else(|| saved.chat_template_kwargs.clone());
    if config.precision == PrecisionChoice::Auto {
        config.precision = saved.precision;
    }
    config.accumulation = config.accumulation.or(saved.accumulation);
    config.check_resumes(&saved)?;
    Ok((config, Some(Resumed { save, data, total_updates })))
}

/// Whether a folder holds neither a result nor the state of a run that was to be replaced.
fn has_nothing_whole(out: &Path) -> bool {
    let mut weights = ADAPTER_FILES.iter().chain(MODEL_FILES).filter(|name| name.ends_with(".safetensors"));
    kept(out).is_none() && !weights.any(|name| out.join(name).exists())
}

/// What becomes of the learning rate where a run goes on to another number of updates than it was begun with.
pub(crate) fn changed_length(prepared: &Prepared) -> Option<String> {
    let (resumed, total) = (prepared.resumed.as_ref()?, prepared.total_updates);
    let before = resumed.total_updates.filter(|&before| before != total)?;
    let made = resumed.save.step;
    let rate = |total_updates, update| prepared.config.lr_schedule(total_updates).rate(update);
    let (last, next) = (rate(before, made.saturating_sub(1)), rate(total, made));
    Some(format!(
        "the run was begun with {before} updates and now has {total}: its learning rates are those of the {} schedule \
         over {total} from here on: {last:.3e} at update {made}, then {next:.3e} at update {}",
        prepared.config.schedule,
        made + 1,
    ))
}
