//! The training loop around a compiled step: settings, schedules, the run folder, exact saves.
//!
//! Invariant: only the run folder does I/O here and nothing prints; the command line does. Look next at [`TrainConfig`]
//! for what can be set and at [`Saves`] for how a run survives a power cut.

mod alternatives;
mod available;
mod batched_step;
mod buckets;
mod calibrate;
mod config;
mod config_file;
mod error;
mod evaluate;
mod finite;
mod forward;
mod generate;
mod given_prices;
mod gradient_watch;
mod inputs;
mod isa;
mod manifest;
mod memory;
mod metrics;
mod ownership;
mod phase_peaks;
mod planning;
mod prepare;
mod prices;
mod profile;
mod profile_record;
mod program_memory;
mod record;
mod record_page;
mod replaced_run;
mod report;
mod run;
mod run_folder;
mod run_plan;
mod sampling;
mod saves;
mod schedule;
mod setup;
mod side_by_side;
mod snapshot;
mod source_totals;
mod spill;
mod text_stream;
mod trace;

pub use alternatives::Alternative;
pub use available::{available_bytes, group_limit_bytes};
pub use buckets::{BucketPlan, LengthBucket};
pub use config::{MethodKind, OptimizerKind, Precision, QuantKind, TrainConfig, TrainedTurns};
pub use config_file::{read as read_config_file, read_run_settings};
pub use error::{ErrorKind, TrainError};
pub use evaluate::{EvaluationReport, EvaluationRequest, evaluate};
pub use generate::{Continuation, Ending, Generator, Request};
pub use isa::{Isa, device_options};
pub use memory::{MemoryAccount, MemoryRow, PhaseMemory};
pub use metrics::{MetricsLog, StepMetrics, read_metrics};
pub use ownership::{RECORD_FILES, own_files, record_kind};
pub use phase_peaks::PhasePeak;
pub use planning::Limit;
pub use prices::{PriceSource, cached_profile, calibrated_profile, measured_profile, price_file};
pub use profile::{PolicyRows, ProfileJob, ProfileRow, ProfileSetup, RefusedPolicy, SampleRows, profile};
pub use profile_record::Profiled;
pub use record::{
    AnswersRecord, Machine, ProfileRecord, RECORD_FILE, RECORD_TEXT_FILE, Record, RecordKind, build, name_commit,
    now_utc, record_folder, today,
};
pub use report::{Event, Outcome, PlannedRun, Reporter, Summary};
pub use run::{Checks, RunControl, train};
pub use run_folder::{CONFIG_FILE, Existing, METRICS_FILE, REPORT_FILE, RunFolder};
pub use run_plan::{Fit, FrontierRow, RunPlan, plan};
pub use sampling::Sampling;
pub use saves::{Save, Saves};
pub use schedule::{Schedule, ScheduleKind};
pub use side_by_side::SideBySide;
pub use text_stream::TextStream;
