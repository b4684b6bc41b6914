//! The training run. Look next at `train` for its course.

pub(crate) mod batched_step;
pub(crate) mod best;
pub(crate) mod checks;
pub(crate) mod control;
pub(crate) mod evaluate;
pub(crate) mod events;
pub(crate) mod finite;
pub(crate) mod gradient_watch;
pub(crate) mod held_out;
pub(crate) mod json_lines;
pub(crate) mod metrics;
pub(crate) mod phase_peaks;
pub(crate) mod prepare;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod resume;
pub(crate) mod sample_log;
pub(crate) mod sampler;
pub(crate) mod sampling;
pub(crate) mod save;
pub(crate) mod session;
pub(crate) mod step_metrics;
pub(crate) mod trace;
pub(crate) mod train;
pub(crate) mod under_way;
pub(crate) mod update;
