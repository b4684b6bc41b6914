//! The training loop around a compiled step: settings, schedules, the run folder, exact saves.
//!
//! Invariant: only the run folder does I/O here and nothing prints; the command line does. Look next at [`TrainConfig`]
//! for what can be set and at [`Saves`] for how a run survives a power cut.

mod config;
mod config_file;
mod error;
mod metrics;
mod run_folder;
mod saves;
mod schedule;

pub use config::{MethodKind, Precision, TrainConfig};
pub use config_file::read as read_config_file;
pub use error::{ErrorKind, TrainError};
pub use metrics::{MetricsLog, StepMetrics, read_metrics};
pub use run_folder::{CONFIG_FILE, Existing, METRICS_FILE, RunFolder};
pub use saves::{Save, Saves};
pub use schedule::{Schedule, ScheduleKind};
