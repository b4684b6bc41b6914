//! The names of the files that a run writes. Invariant: a name stands here and nowhere else; what is in a file stands in the
//! module that writes it.

/// Settings of the run, as resolved.
pub const CONFIG_FILE: &str = "config.toml";
/// One line of JSON per update.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The curves of the run for TensorBoard, which takes what has `tfevents` in its name.
pub(crate) const EVENTS_FILE: &str = "events.out.tfevents.remat";
/// What the model in training made of the texts to sample, one line of JSON per text and time.
pub const SAMPLES_FILE: &str = "samples.jsonl";
/// Rows to train on.
pub(crate) const ROWS_FILE: &str = "rows.bin";
/// Held-out rows.
pub(crate) const EVAL_ROWS_FILE: &str = "eval-rows.bin";

/// The lab record's JSON form.
pub const RECORD_FILE: &str = "record.json";
/// Its form for people.
pub const RECORD_TEXT_FILE: &str = "record.md";
/// The run as a page to look at.
pub const REPORT_FILE: &str = "report.html";

/// The folder of the adapter or model with the lowest loss of the held-out rows.
pub const BEST_FOLDER: &str = "best";
/// In it: which evaluation it is of.
pub(crate) const BEST_FILE: &str = "best.json";

/// What the folder of a save begins with; the number of updates before it follows.
pub(crate) const SAVE_PREFIX: &str = "checkpoint-";
/// Of a save: its files with their hashes.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Of a save: parameters and moments.
pub(crate) const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Of a save: counts and the newest of the log.
pub(crate) const TRAINER_STATE_FILE: &str = "trainer_state.json";
/// Of a save: the position in the data.
pub(crate) const DATA_STATE_FILE: &str = "data_state.json";

/// Files that a lab record and its page are in.
pub const RECORD_FILES: &[&str] = &[RECORD_FILE, RECORD_TEXT_FILE, REPORT_FILE];

/// What a run that goes on reads, beside its saves; the settings first.
pub(crate) const STATE_FILES: [&str; 6] =
    [CONFIG_FILE, METRICS_FILE, EVENTS_FILE, SAMPLES_FILE, ROWS_FILE, EVAL_ROWS_FILE];
