//! `plan --device list`: which of the published cards would do.
//!
//! Invariant: each row is what `plan --device NAME` says of that card. Times are estimates from published rates; nobody measured them.

use crate::units::bytes;
use remat_plan::MemoryDomain;
use remat_step::device::{CARDS, PublishedCard};
use remat_train::{DeviceName, ErrorKind, Fit, RunPlan, TrainConfig, TrainError, plan};

/// The page.
///
/// # Errors
/// Settings that no card would run.
pub(super) fn page(config: &TrainConfig) -> Result<String, TrainError> {
    let mut page = line(["card", "memory", "verdict", "peak", "tokens/s", "checkpointing"]) + "\n";
    for card in CARDS {
        let row = match plan(TrainConfig { device: DeviceName::Published(card), ..config.clone() }) {
            Ok(planned) => row(card, &planned),
            // So far from it that nothing was planned.
            Err(error) if error.kind() == ErrorKind::DoesNotFit => cells(card, "does not fit", "", "", ""),
            Err(error) => return Err(error),
        };
        page.push_str(&row);
        page.push('\n');
    }
    page.push_str("\nPeaks are of the card's memory, beside 512 MiB for its context. Tokens a second are estimated from published\n");
    page.push_str("rates, and measured by nobody.\n");
    Ok(page)
}

fn row(card: &PublishedCard, plan: &RunPlan) -> String {
    let peak = bytes(plan.account.peak_bytes(MemoryDomain::Device) as u64);
    let verdict = match plan.fit {
        Fit::Fits => "fits",
        Fit::Tight => "tight",
        Fit::DoesNotFit => "does not fit",
    };
    let tokens = (plan.shape.batch * plan.shape.seq_len * plan.config.grad_accum) as f64 / plan.step_seconds;
    let (speed, policy) = match plan.fit {
        Fit::DoesNotFit => (String::new(), String::new()),
        Fit::Fits | Fit::Tight => (format!("{tokens:.0}"), plan.micro.policy.to_string()),
    };
    cells(card, verdict, &peak, &speed, &policy)
}

fn cells(card: &PublishedCard, verdict: &str, peak: &str, speed: &str, policy: &str) -> String {
    line([card.name, &bytes((card.memory_mib as u64) << 20), verdict, peak, speed, policy])
}

fn line([card, memory, verdict, peak, speed, policy]: [&str; 6]) -> String {
    format!("{card:<18}{memory:>10}  {verdict:<14}{peak:>10}{speed:>10}  {policy}").trim_end().to_string()
}
