//! A plan as one JSON object that others rely on.

use super::explain::values;
use remat_plan::MemoryDomain;
use remat_train::{Fit, PhaseMemory, PhasePart, RunPlan};
use serde_json::{Map, Value, json};

/// The object; with `explain`, also every value that backward reads.
pub(super) fn object(plan: &RunPlan, explain: bool) -> Value {
    let point = |row: &remat_train::FrontierRow| {
        json!({
            "peak_bytes": row.peak_bytes,
            "activation_bytes": row.activation_bytes,
            "step_seconds": row.step_seconds,
        })
    };
    let prices = &plan.profile.prices;
    let mut object = json!({
        "schema": 1,
        "model": plan.model,
        "family": plan.family,
        "config": plan.config,
        "batch_size": plan.shape.batch,
        "seq_len": plan.shape.seq_len,
        "trained_parameters": plan.trained_parameters,
        "total_parameters": plan.total_parameters,
        "device": plan.profile.name,
        "threads": plan.profile.threads,
        "prices_measured": prices.measured,
        "fits": plan.fit != Fit::DoesNotFit,
        "verdict": plan.fit.as_str(),
        "policy": plan.config.checkpointing,
        "budget_bytes": plan.limit.map(|limit| limit.bytes),
        "peak_bytes": plan.account.peak_bytes(plan.domain),
        "domain": plan.domain.name(),
        "smallest_budget_bytes": plan.smallest_memory_bytes,
        "smallest_activation_bytes": plan.smallest_activation_bytes,
        "step_seconds": plan.step_seconds,
        "recompute_seconds": plan.rounds() as f64 * plan.micro.recompute_seconds(prices),
        "activation_bytes": plan.micro.activation_bytes(),
        "arena_bytes": plan.micro.arena_bytes.max(plan.update.arena_bytes),
        "plan_steps": plan.micro.steps.len(),
        "recomputed_steps": plan.micro.recomputed_steps().count(),
        "tiles": plan.micro.tiles(),
        "offloaded_bytes": plan.micro.offloaded_bytes(),
        "copy_steps": plan.micro.copy_steps().count(),
        "off_memory_weight_bytes": plan.micro.spilled_weight_bytes(),
        "read_weight_bytes": plan.micro.fetched_weight_bytes(),
        "placement": plan.placement,
        "states": plan.states,
        "offload": prices.spill,
        "phases": plan.phases().iter().map(of_phase).collect::<Vec<_>>(),
        "frontier": plan.frontier.iter().map(point).collect::<Vec<_>>(),
        "buckets": plan.buckets,
        "arena_over_lower_bound": plan.arena_over_lower_bound,
        "alternatives": plan.alternatives,
        "ranks": plan.ranks,
    });
    if explain {
        let value = |value: &super::explain::Value| {
            json!({
                "name": value.name,
                "layer": value.layer,
                "bytes": value.bytes,
                "treatment": value.treatment.as_str(),
                "seconds": value.seconds,
                "why": value.why(),
            })
        };
        object["values"] = values(plan).iter().map(value).collect();
    }
    object
}

/// A phase: its parts in memory, and what it holds of each kind.
fn of_phase(phase: &PhaseMemory) -> Value {
    let in_memory = PhasePart::ALL.iter().filter(|part| !part.is_file());
    let part = |&part: &PhasePart| (part.json_name().to_string(), json!(phase.rows.of(part)));
    let parts: Map<String, Value> = in_memory.map(part).collect();
    let domain = |domain: MemoryDomain| (domain.name().to_string(), json!(phase.rows.in_domain(domain)));
    let domains: Map<String, Value> = MemoryDomain::ALL.into_iter().map(domain).collect();
    json!({
        "name": phase.phase.name(),
        "peak_bytes": phase.peak_bytes(),
        "parts": parts,
        "domains": domains,
    })
}
