//! The training loop around a compiled step: settings, schedules, the run folder, exact saves.
//!
//! Invariant: only the run folder does I/O here and nothing prints; the command line does. Look next at [`TrainConfig`]
//! for what can be set and at [`Saves`] for how a run survives a power cut.

mod error;
mod folder;
mod generate;
mod plan;
mod prices;
mod profile;
mod record;
mod run;
mod settings;

pub use error::{ErrorKind, TrainError};
pub use folder::ownership::{RECORD_FILES, own_files, record_kind};
pub use folder::run_folder::{CONFIG_FILE, Existing, METRICS_FILE, REPORT_FILE, RunFolder};
pub use folder::saves::{Save, Saves};
pub use generate::sampling::Sampling;
pub use generate::text_stream::TextStream;
pub use generate::{Continuation, Ending, Generator, Request};
pub use plan::alternatives::Alternative;
pub use plan::available::{available_bytes, group_limit_bytes};
pub use plan::buckets::{BucketPlan, LengthBucket};
pub use plan::memory::{MemoryAccount, PhaseMemory, peak_resident_bytes};
pub use plan::memory_part::{MemoryPart, MemoryTable, PhasePart, RunPhase};
pub use plan::planning::{Limit, Limits};
pub use plan::run_plan::{Fit, FrontierRow, RunPlan, plan};
pub use prices::{
    Measuring, PriceCorrection, PriceHistory, PriceSource, cached_profile, calibrated_profile, measured_profile,
    price_file, price_history,
};
pub use profile::profile_record::Profiled;
pub use profile::side_by_side::SideBySide;
pub use profile::{PolicyRows, ProfileJob, ProfileRow, ProfileSetup, RefusedPolicy, SampleRows, profile};
pub use record::{
    AnswersRecord, Machine, ProfileRecord, RECORD_FILE, RECORD_TEXT_FILE, Record, RecordKind, build, name_commit,
    now_utc, record_folder, today,
};
pub use run::evaluate::{EvaluationReport, EvaluationRequest, evaluate};
pub use run::metrics::{MetricsLog, StepMetrics, read_metrics};
pub use run::phase_peaks::PhasePeak;
pub use run::report::{Event, Outcome, PlannedRun, Reporter, Summary};
pub use run::{Checks, RunControl, train};
pub use settings::config::{MethodKind, OptimizerKind, QuantKind, TrainConfig, TrainedTurns};
pub use settings::config_file::{read as read_config_file, read_run_settings};
pub use settings::isa::{Isa, device_options};
pub use settings::precision::{Precision, PrecisionChoice};
pub use settings::schedule::{Schedule, ScheduleKind, Warmup};
