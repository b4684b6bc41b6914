//! What settings come to: set-up, memory account, limit, plans, prices. Look next at `setup`, then `planning`.

pub(crate) mod alternative;
pub(crate) mod alternatives;
pub(crate) mod available;
pub(crate) mod buckets;
pub(crate) mod cluster;
pub(crate) mod limit_owner;
pub(crate) mod memory;
pub(crate) mod memory_part;
pub(crate) mod off_memory;
pub(crate) mod out_of_reach;
pub(crate) mod part_seconds;
pub(crate) mod placed_states;
pub(crate) mod placed_weights;
pub(crate) mod placement;
pub(crate) mod plan_step;
pub(crate) mod planning;
pub(crate) mod process_memory;
pub(crate) mod program_memory;
pub(crate) mod run_plan;
pub(crate) mod setting;
pub(crate) mod setup;
pub(crate) mod source_totals;
pub(crate) mod state_levels;
