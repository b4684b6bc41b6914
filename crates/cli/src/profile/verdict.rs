//! What a profile concludes: whether checkpointing pays for this job on this machine, which policy, and what would have to
//! be different for that to change.
//!
//! Invariant: a plan that recomputes nothing and fits is never advised against for a difference that is noise.

use crate::units::{bytes, counted};
use remat_train::{Limit, ProfileRow, ProfileSetup};

/// A plan that recomputes and yet measures faster by less than this is not faster.
const NOISE_PERCENT: f64 = 3.0;

/// The row it is for, and the sentences.
pub(super) fn verdict(setup: &ProfileSetup, rows: &[ProfileRow]) -> (usize, String) {
    conclude(rows, setup.limit(), setup.shape.batch, setup.shape.seq_len)
}

fn conclude(rows: &[ProfileRow], limit: Option<Limit>, batch: usize, seq_len: usize) -> (usize, String) {
    let Some(limit) = limit else {
        return (0, "How much memory this machine has is unknown; give --memory SIZE for a verdict.".to_string());
    };
    let (whose, has) = (limit.whose, bytes(limit.bytes as u64));
    let fastest = |keeps_all: bool| {
        let fits = |row: &ProfileRow| row.planned_peak_bytes <= limit.bytes as u64;
        let rows = rows.iter().enumerate();
        rows.filter(|(_, row)| fits(row) && (keeps_everything(row) || !keeps_all))
            .min_by(|a, b| a.1.step_seconds.total_cmp(&b.1.step_seconds))
    };
    let Some((index, best)) = fastest(true).or_else(|| fastest(false)) else {
        let text = format!(
            "None of these fits: {whose} {has}. `remat plan` with the same flags names the smallest plan and what else to change."
        );
        return (0, text);
    };
    if keeps_everything(best) {
        return (index, needless(best, fastest(false).map(|(_, row)| row), limit, batch, seq_len));
    }
    let kept = rows.iter().filter(|row| keeps_everything(row)).min_by_key(|row| row.planned_peak_bytes);
    let text = match kept {
        Some(kept) => needed(kept, best, limit, batch, seq_len),
        None => format!(
            "{} is the fastest of these that fits ({} of {has}). All of them recompute or offload: add none to --policies to see \
             whether checkpointing pays.",
            best.policy,
            bytes(best.planned_peak_bytes)
        ),
    };
    (index, text)
}

/// Whether a row neither recomputes nor offloads.
fn keeps_everything(row: &ProfileRow) -> bool {
    row.recomputed_steps == 0 && row.offloaded_bytes == 0
}

/// Everything kept fits.
fn needless(best: &ProfileRow, fastest: Option<&ProfileRow>, limit: Limit, batch: usize, seq_len: usize) -> String {
    let (whose, has) = (limit.whose, bytes(limit.bytes as u64));
    let peak = bytes(best.planned_peak_bytes);
    let mut text =
        format!("Checkpointing does not pay for this job here: without it the step needs {peak} and {whose} {has}.");
    if let Some(other) = fastest {
        let faster = 100.0 * (1.0 - other.step_seconds / best.step_seconds);
        if faster > NOISE_PERCENT {
            text = format!(
                "Checkpointing is not needed for this job here ({peak} of {has}), yet {} measured {faster:.0} % faster: \
                 less memory to go through.",
                other.policy
            );
        }
    }
    // More sequences need more of what is kept and of what passes by; the rest stays.
    let most = most_sequences(best, limit, batch);
    let change = format!(
        " It begins to pay with less than {peak} of memory, or above about {} of {seq_len} tokens a batch (now {batch}).",
        counted(most, "sequence")
    );
    text + &change
}

/// Everything kept does not fit.
fn needed(kept: &ProfileRow, best: &ProfileRow, limit: Limit, batch: usize, seq_len: usize) -> String {
    let (has, peak) = (bytes(limit.bytes as u64), bytes(kept.planned_peak_bytes));
    let less = bytes(kept.planned_peak_bytes.saturating_sub(best.planned_peak_bytes));
    let more = 100.0 * (best.step_seconds / kept.step_seconds - 1.0);
    let fewer = match most_sequences(kept, limit, batch) {
        0 => String::new(),
        most => format!(", nor with at most {} of {seq_len} tokens a batch (now {batch})", counted(most, "sequence")),
    };
    format!(
        "Checkpointing pays here: {} does not fit ({peak} of {has}), and {} is the fastest that does: {less} less for \
         {more:+.0} % time. It would not be needed with {peak} of memory{fewer}.",
        kept.policy, best.policy
    )
}

/// Sequences of a batch under this policy that the limit has room for, by what the arena takes for each now.
fn most_sequences(row: &ProfileRow, limit: Limit, batch: usize) -> usize {
    let beside = row.planned_peak_bytes.saturating_sub(row.arena_bytes as u64);
    let each = (row.arena_bytes / batch.max(1)).max(1);
    (limit.bytes as u64).saturating_sub(beside) as usize / each
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_train::LimitOwner;

    fn row(policy: &str, peak: u64, seconds: f64, recomputed_steps: usize) -> ProfileRow {
        ProfileRow {
            policy: policy.to_string(),
            planned_peak_bytes: peak << 20,
            measured_peak_bytes: None,
            activation_bytes: 0,
            measured_activation_bytes: None,
            head_bytes: 0,
            model_bytes: 0,
            arena_bytes: (peak as usize - 100) << 20,
            plan_steps: 10,
            recomputed_steps,
            offloaded_bytes: 0,
            bound_by: String::new(),
            planned_step_seconds: seconds,
            step_seconds: seconds,
            extra_flops_percent: 0.0,
            extra_percent: 0.0,
            tokens_per_second: 1.0,
            trained_hash: 0,
        }
    }

    fn limit(mib: usize) -> Option<Limit> {
        Some(Limit { bytes: mib << 20, whose: LimitOwner::Setting })
    }

    #[test]
    fn the_verdict_follows_from_what_fits() {
        let rows = [row("none", 900, 1.0, 0), row("full", 300, 0.99, 5), row("every:2", 200, 1.5, 9)];
        let (chosen, text) = conclude(&rows, limit(1000), 1, 64);
        assert_eq!(chosen, 0, "a hundredth faster is noise: {text}");
        assert!(text.contains("does not pay") && text.contains("less than 900.0 MiB"), "{text}");
        let (chosen, text) = conclude(&rows, limit(899), 4, 64);
        assert_eq!(chosen, 1);
        assert!(text.contains("pays here: none does not fit") && text.contains("at most 3 sequences"), "{text}");
        assert!(conclude(&rows, limit(199), 1, 64).1.contains("None of these fits"));
        let (chosen, text) = conclude(&rows[1..], limit(1000), 1, 64);
        assert_eq!(chosen, 0);
        assert!(text.contains("add none to --policies"), "{text}");
        assert!(conclude(&rows, None, 1, 64).1.contains("give --memory"));
    }

    #[test]
    fn a_plan_that_is_clearly_faster_is_named_even_if_it_recomputes() {
        let rows = [row("none", 900, 1.0, 0), row("full", 300, 0.8, 5)];
        let (_, text) = conclude(&rows, limit(1000), 1, 64);
        assert!(text.contains("full measured 20 % faster"), "{text}");
    }
}
