//! Arenas of every preset against the bytes that their order of steps has alive at once.
//!
//! `cargo xtask arenas` (with `--release`) plans LoRA in bf16 with all layers, at 512 and 4096 tokens (1024 where the model
//! has no more positions), under `none`, `full` and `auto` with an arena half-way between those two. Invariant: the bound
//! is the checker's own, derived from the plan's steps alone.

use remat_compiler::Problem;
use remat_model::{BatchShape, LoraConfig, Method, Precision, preset, preset_names, training};
use remat_plan::{DeviceProfile, Plan, Policy, lower_bound_bytes};
use remat_step::TrainingStep;
use std::error::Error;
use std::time::Instant;

/// An arena may exceed its bound by this factor.
const MOST: f64 = 1.02;

/// Runs the chore and prints its table; false if an arena exceeds its bound by too much.
///
/// # Errors
/// A model that cannot be built or planned.
pub fn run() -> Result<bool, Box<dyn Error>> {
    let mut worst = 0.0f64;
    println!("{:<18}{:>8}{:>12}{:>12}{:>12}{:>12}", "preset", "tokens", "none", "full", "auto", "seconds");
    for name in preset_names() {
        for tokens in [512, 4096] {
            let tokens = tokens.min(preset(name)?.max_position_embeddings);
            let profile = DeviceProfile::generic();
            let problem = problem(name, tokens, &profile)?;
            let [none, full] = [Policy::None, Policy::Full].map(|policy| problem.plan(&policy, None));
            let (none, full) = (none?, full?);
            let cap = usize::midpoint(none.arena_bytes, full.arena_bytes);
            let start = Instant::now();
            let auto = problem.plan(&Policy::Auto, Some(cap))?;
            let seconds = start.elapsed().as_secs_f64();
            let [none, full, auto] = [none, full, auto].map(|plan| ratio(&plan));
            worst = worst.max(none).max(full).max(auto);
            println!("{name:<18}{tokens:>8}{none:>12.4}{full:>12.4}{auto:>12.4}{seconds:>12.2}");
        }
    }
    println!("largest arena over its lower bound: {worst:.4}; seconds are those of planning auto");
    Ok(worst <= MOST)
}

fn ratio(plan: &Plan) -> f64 {
    plan.arena_bytes as f64 / lower_bound_bytes(plan).max(1) as f64
}

fn problem<'p>(name: &str, seq_len: usize, profile: &'p DeviceProfile) -> Result<Problem<'p>, Box<dyn Error>> {
    let lora = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    let shape = BatchShape { batch: 1, seq_len };
    let training = training(&preset(name)?, Precision::Bf16, &Method::Lora(lora), shape)?;
    Ok(TrainingStep::new(training, None)?.problem(profile)?.0)
}
