//! The step under three policies side by side, planned and measured, and the same trade on a large model's shape.

use super::job::{BATCH, RANK, SEQ_LEN};
use crate::terminal;
use crate::units;
use remat_model::{BatchShape, LoraConfig, Method, Model, Precision, preset, training};
use remat_plan::{DeviceProfile, Plan, Policy};
use remat_step::{DeviceOptions, TrainingStep};
use remat_train::{Limits, PolicyRows, ProfileJob, ProfileRow, TrainError, profile};

/// Counted steps of each policy.
pub(super) const REPEATS: usize = 9;
/// The large model that is planned from its published shape.
const LARGE: &str = "llama-3.1-8b";
const LARGE_SEQ_LEN: usize = 4096;

/// What the choice is.
pub(super) fn explain() {
    terminal::say(
        "   Forward computes activations, layer by layer, and backward needs them again, in reverse. So they wait",
    );
    terminal::say(
        "   in memory: more of them with every layer and every token. Gradient checkpointing drops most of them",
    );
    terminal::say(
        "   and computes them again when backward comes by: less memory for more time. Which ones is the plan's",
    );
    terminal::say(
        "   decision. Here is one training step under three policies, each planned first and then measured:\n",
    );
}

/// Prints the table and what it says.
pub(super) fn compare(model: &Model, threads: usize) -> Result<PolicyRows, TrainError> {
    let job = ProfileJob {
        batch: None,
        model,
        method: &lora(),
        shape: BatchShape { batch: BATCH, seq_len: SEQ_LEN },
        policies: &[Policy::None, Policy::Every(2), Policy::Full],
        repeats: REPEATS,
        options: DeviceOptions::cpu(threads),
        limits: Limits::default(),
        prices: None,
        spill: None,
    };
    let found = profile(&job)?;
    let rows = &found.rows;
    terminal::say("   checkpointing   activations kept    peak memory of the process    time of a step");
    terminal::say("                   for backward        planned       measured        planned    measured");
    for row in rows {
        let measured = row.measured_peak_bytes.map_or("unknown".to_string(), units::bytes);
        let kept = units::bytes(row.activation_bytes as u64);
        let (planned_ms, ms) = (1e3 * row.planned_step_seconds, 1e3 * row.step_seconds);
        let more = if row.policy == rows[0].policy { String::new() } else { format!("   {:+.0} %", row.extra_percent) };
        let (planned, times) =
            (units::bytes(row.planned_peak_bytes), (format!("{planned_ms:.1} ms"), format!("{ms:.1} ms")));
        terminal::say(&format!(
            "   {:<15} {kept:<19} {planned:<13} {measured:<15} {:<10} {}{more}",
            row.policy, times.0, times.1
        ));
    }
    for refused in &found.refused {
        terminal::say(&format!("   {} was not measured: {}.", refused.policy, refused.reason));
    }
    conclude(rows)?;
    Ok(found)
}

fn conclude(rows: &[ProfileRow]) -> Result<(), TrainError> {
    let (Some(none), Some(full)) = (rows.first(), rows.last()) else { return Ok(()) };
    let less = 100.0 - 100.0 * full.activation_bytes as f64 / none.activation_bytes.max(1) as f64;
    let extra = full.extra_percent;
    terminal::say("");
    terminal::say(&format!("   So full keeps {less:.0} % less for backward and takes {extra:.0} % more time."));
    if rows.iter().all(|row| row.trained_hash == none.trained_hash) {
        terminal::say(
            "   And nothing else changes: after two updates, what was trained is equal in every bit under all three.",
        );
    } else {
        terminal::say("   But what was trained differs between them, which must never be: please report it.");
    }
    let (large_none, large_full) = (large(&Policy::None)?, large(&Policy::Full)?);
    terminal::say(&format!(
        "   On this small model that hardly matters. The same plans for {LARGE} at {LARGE_SEQ_LEN} tokens, from its shape"
    ));
    terminal::say(&format!(
        "   alone: none keeps {}, full {}. That is the difference between fitting and not.",
        units::bytes(large_none.activation_bytes() as u64),
        units::bytes(large_full.activation_bytes() as u64)
    ));
    Ok(())
}

fn lora() -> Method {
    Method::Lora(LoraConfig { rank: RANK, alpha: 2.0 * RANK as f32, ..LoraConfig::default() })
}

/// The plan of one sequence of the large model.
fn large(policy: &Policy) -> Result<Plan, TrainError> {
    let config = preset(LARGE)?;
    let shape = BatchShape { batch: 1, seq_len: LARGE_SEQ_LEN };
    let training = training(&config, Precision::Bf16, &lora(), shape)?;
    let profile = DeviceProfile::generic();
    Ok(TrainingStep::new(training, None)?.problem(&profile)?.0.plan(policy, None)?)
}
