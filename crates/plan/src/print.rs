//! The text form of a plan, for people, snapshots and `parse`: policy, arena, rules, the graph, the weights
//! and states that are not resident if there are any, then a line for each buffer and each step.
//!
//! Invariant: `plan.to_string().parse() == Ok(plan)`.

use crate::{Action, Buffer, HeadChunk, KernelRules, Place, Plan, Slot, Step, Tier, WeightLayout};
use remat_ir::{Storage, ValueId};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {{")?;
        writeln!(f, "  policy {}", self.policy)?;
        writeln!(f, "  arena {}", self.arena_bytes)?;
        writeln!(f, "  {}", self.rules)?;
        for line in self.graph.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        if !self.spilled.is_empty() {
            let weights: Vec<String> = self.spilled.iter().map(|weight| format!("%{}", weight.0)).collect();
            let is_state = |id: &ValueId| self.graph.value(*id).storage == Storage::State;
            let states = if self.spilled.iter().any(is_state) { " and states" } else { "" };
            writeln!(f, "  weights{states}({}) in {}", weights.join(", "), Tier::Spill)?;
        }
        for (index, buffer) in self.buffers.iter().enumerate() {
            writeln!(f, "  b{index} {buffer}")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  s{index} {step}")?;
        }
        write!(f, "}}")
    }
}

impl fmt::Display for KernelRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KernelRules { slot_alignment_bytes, token_block, head, attention_shares } = self;
        let HeadChunk { tokens, narrow, tokens_when_wide } = head;
        write!(f, "rules alignment {slot_alignment_bytes}, token block {token_block}, ")?;
        write!(f, "head {tokens} to {narrow} then {tokens_when_wide}, shares {attention_shares}")
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.bytes, self.offset)
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}: {}, s{} to s{}", self.value.0, self.slot, self.first.0, self.last.0)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}({}) -> ({})", self.queue, self.action, list(&self.reads), list(&self.writes))?;
        if let Some(slot) = self.workspace {
            write!(f, " workspace {slot}")?;
        }
        if !self.waits.is_empty() {
            let waits: Vec<String> = self.waits.iter().map(|step| format!("s{}", step.0)).collect();
            write!(f, " waits({})", waits.join(", "))?;
        }
        if self.signals { f.write_str(" signals") } else { Ok(()) }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Compute(op) => write!(f, "#{}", op.0),
            Action::Evict { value, tier } => write!(f, "evict %{} to {tier}", value.0),
            Action::Fetch { value, tier, rows: None } => write!(f, "fetch %{} from {tier}", value.0),
            Action::Fetch { value, tier, rows: Some(ids) } => {
                write!(f, "fetch %{} from {tier} rows %{} ", value.0, ids.0)
            }
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Resident => "resident",
            Tier::Spill => "spill",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Arena(buffer) => write!(f, "b{}", buffer.0),
            Place::Weight(weight) => {
                let WeightLayout::RowMajor = weight.layout;
                write!(f, "{} weight %{}", weight.tier, weight.value.0)
            }
            Place::State(root) => write!(f, "state %{}", root.0),
            Place::Spilled(root) => write!(f, "{} state %{}", Tier::Spill, root.0),
            Place::Input(value) => write!(f, "input %{}", value.0),
        }
    }
}

fn list(places: &[Place]) -> String {
    places.iter().map(Place::to_string).collect::<Vec<_>>().join(", ")
}
