//! The rows of a run in its folder, as one scan made them: a run that goes on need not read and tokenise its data again.
//!
//! They are there as long as there are saves to go on from. Invariant: rows that are taken are those that the data would
//! give now, by the same program (`remat_data`'s `rows_file`), and those that the save was made with; otherwise they are
//! read again, and the file is replaced.

use crate::folder::file_names::{EVAL_ROWS_FILE, ROWS_FILE};
use crate::folder::ownership::own_files;
use crate::record::program::build;
use crate::{TrainConfig, TrainError};
use remat_data::{Dataset, Encoder, ModelTokens};
use remat_formats::{ModelConfig, sha256_bytes};
use std::path::{Path, PathBuf};

/// What becomes of rows beside being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Nothing: no run goes on with them.
    No,
    /// They are made ready to be kept.
    Scanned,
    /// Those that were kept are taken, if they are the same.
    Resumed,
}

/// The settings and the model that make rows what they are.
#[derive(Clone, Copy)]
pub(crate) struct RowsOf<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) tokens: Option<&'a ModelTokens>,
    pub(crate) model: &'a ModelConfig,
    pub(crate) seq_len: usize,
    pub(crate) keeping: Keeping,
}

impl RowsOf<'_> {
    /// The rows of these files, which a run's folder has under `name`.
    pub(crate) fn load(&self, paths: &[PathBuf], name: &str) -> Result<Dataset, TrainError> {
        let RowsOf { config, tokens, model, seq_len, keeping } = *self;
        let settings = self.settings(paths);
        if keeping == Keeping::Resumed
            && let Some(rows) = Dataset::kept(&config.out.join(name), &settings, paths, seq_len, model.vocab_size)
        {
            return Ok(rows);
        }
        let encoder = Encoder::for_model(tokens, model.vocab_size).with_train_on(config.train_on.into());
        let rows = Dataset::load(paths, &config.row_options(), &encoder, seq_len)?;
        Ok(if keeping == Keeping::No { rows } else { rows.to_be_kept(settings)? })
    }

    /// All that decides what the files' rows become, beside their bytes; the program, too.
    fn settings(&self, paths: &[PathBuf]) -> String {
        let RowsOf { config, tokens, model, seq_len, .. } = *self;
        let TrainConfig { columns, ignore_columns, bad_rows, train_on, chat_date, chat_template_kwargs, .. } = config;
        let tokens = tokens.map(ModelTokens::identity);
        let read = (columns, ignore_columns, bad_rows, train_on, chat_date, chat_template_kwargs);
        sha256_bytes(format!("{paths:?} {read:?} {tokens:?} {} {seq_len} {:?}", model.vocab_size, build()).as_bytes())
    }
}

/// Leaves rows in a run's folder.
pub(crate) fn keep(folder: &Path, train: &Dataset, held_out: Option<&Dataset>) -> Result<(), TrainError> {
    let files = [(ROWS_FILE, Some(train)), (EVAL_ROWS_FILE, held_out)];
    let files = files.into_iter().filter_map(|(name, rows)| Some((name, rows?)));
    let files = || files.clone().filter(|(_, rows)| rows.is_to_be_kept());
    own_files(folder)?.add(files().map(|(name, _)| name))?;
    for (name, rows) in files() {
        rows.keep(&folder.join(name)).map_err(TrainError::not_saved)?;
    }
    Ok(())
}

/// Takes the rows out of a run's folder.
pub(crate) fn forget(folder: &Path) -> Result<(), TrainError> {
    Ok(own_files(folder)?.remove([ROWS_FILE, EVAL_ROWS_FILE])?)
}
