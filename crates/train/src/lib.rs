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
mod ranks;
mod record;
mod run;
mod settings;

pub use error::{ErrorKind, TrainError};
pub use folder::existing::Existing;
pub use folder::file_names::{
    BEST_FOLDER, CONFIG_FILE, METRICS_FILE, RECORD_FILE, RECORD_FILES, RECORD_TEXT_FILE, REPORT_FILE, SAMPLES_FILE,
};
pub use folder::ownership::{own_files, record_kind};
pub use folder::run_folder::RunFolder;
pub use folder::run_settings::read_run_settings;
pub use folder::saves::{Save, Saves};
pub use generate::batch::{BatchEvent, BatchGenerator};
pub use generate::decoding::{Continuation, Ending, Request};
pub use generate::generator::Generator;
pub use generate::sampling::Sampling;
pub use generate::text_stream::TextStream;
pub use plan::alternative::Alternative;
pub use plan::available::{available_bytes, group_limit_bytes};
pub use plan::buckets::{BucketPlan, LengthBucket};
pub use plan::cluster::{Cluster, LinkSpeed, RanksPlan, Traffic};
pub use plan::limit_owner::LimitOwner;
pub use plan::memory::{MemoryAccount, PhaseMemory};
pub use plan::memory_part::{MemoryPart, MemoryTable, PhasePart, RunPhase};
pub use plan::placed_states::PlacedStates;
pub use plan::placed_weights::{PlacedWeights, WeightTier};
pub use plan::planning::{Limit, Limits};
pub use plan::process_memory::peak_resident_bytes;
pub use plan::run_plan::{Fit, FrontierRow, RunPlan, plan, plan_on_ranks};
pub use plan::state_levels::StateKind;
pub use prices::machine_prices::{
    Measuring, PriceSource, cached_profile, calibrated_profile, measured_profile, price_history,
};
pub use prices::price_cache::{PriceCorrection, PriceHistory};
pub use prices::price_file::price_file;
pub use profile::job::ProfileJob;
pub use profile::measure::{PolicyRows, profile};
pub use profile::profiled::Profiled;
pub use profile::row::{ProfileRow, RefusedPolicy};
pub use profile::setup::{ProfileSetup, SampleRows};
pub use profile::side_by_side::SideBySide;
pub use record::lab_record::{AnswersRecord, BestRecord, ProfileRecord, RankRecord, Record, RecordKind};
pub use record::machine::Machine;
pub use record::program::{build, name_commit};
pub use record::time::{now_utc, today};
pub use record::write::record_folder;
pub use remat_formats::{SettingName, spell_settings};
pub use remat_step::Schedule;
pub use run::control::{Checks, RunControl};
pub use run::evaluate::{EvaluationReport, EvaluationRequest, evaluate};
pub use run::held_out::Best;
pub use run::metrics::{MetricsLog, read_metrics};
pub use run::phase_peaks::PhasePeak;
pub use run::report::{Event, Outcome, PlannedRun, Reporter, Summary};
pub use run::sample_log::{Sample, read_samples};
pub use run::step_metrics::StepMetrics;
pub use run::train::train;
pub use settings::adapter_options::AdapterOptions;
pub use settings::config::TrainConfig;
pub use settings::config_file::read as read_config_file;
pub use settings::device_map::DeviceMap;
pub use settings::device_name::DeviceName;
pub use settings::isa::{Isa, device_options};
pub use settings::kinds::{AccumulationKind, MethodKind, OptimizerKind, QuantKind, TrainedTurns};
pub use settings::max_memory::MaxMemory;
pub use settings::precision::{Precision, PrecisionChoice};
pub use settings::schedule::{ScheduleKind, Warmup};
