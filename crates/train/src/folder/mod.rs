//! The folder of a run: who may write there, saves that are whole or not there, and what is inside. Look next at `run_folder`.

pub(crate) mod best;
pub(crate) mod events_folder;
pub(crate) mod existing;
pub(crate) mod file_names;
pub(crate) mod inputs;
pub(crate) mod kept_rows;
pub(crate) mod manifest;
pub(crate) mod ownership;
pub(crate) mod replaced_run;
pub(crate) mod run_folder;
pub(crate) mod run_settings;
pub(crate) mod saved_states;
pub(crate) mod saves;
pub(crate) mod snapshot;
