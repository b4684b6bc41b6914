//! What else could be chosen: settings that need less memory, each with what it saves and what it costs.
//!
//! Method: each change is compiled on its own, under the same policy; where a budget or limit shaped the plan, in an arena
//! as much smaller as the change makes the activations. So a saving is the change's own and not another trade of time for
//! memory. Another policy for the same step is another plan of the same problem. Invariant: every figure is of a plan that was made; nothing is extrapolated.

use crate::plan::alternative::Alternative;
use crate::plan::memory::Buffers;
use crate::plan::part_seconds::PartSeconds;
use crate::plan::setting::{Setting, update_rule};
use crate::prices::spill::with_spill;
use crate::settings::device_name::DeviceName;
use crate::settings::isa::all_threads;
use crate::settings::kinds::{MethodKind, QuantKind};
use crate::{MemoryAccount, MemoryPart, Precision, TrainConfig, TrainError};
use remat_compiler::{CompileError, Problem};
use remat_formats::SettingName;
use remat_ir::Parameter;
use remat_model::{BatchShape, LoraConfig, Method, Quant};
use remat_plan::{ByteSize, DeviceProfile, Plan, Policy, SpillPrices};
use remat_step::TrainingStep;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What a setting comes to under one policy.
#[derive(Debug, Clone, Copy)]
struct Figures {
    sources_and_arena_bytes: usize,
    arena_bytes: usize,
    seconds_per_token: f64,
}

impl Setting<'_> {
    /// The figures of the plan of `policy` in an arena of at most `cap` bytes, or of the smallest that there is.
    fn figures(&self, present: &Present<'_>, policy: &Policy, cap: Option<usize>) -> Result<Figures, TrainError> {
        let training = self.training()?;
        // Most changes train the same parameters, and so have the same update.
        let same_update = same_parameters(&training.parameters, present.parameters)
            && self.config.accumulation_rule() == present.setting.config.accumulation_rule();
        let (problem, trained) =
            TrainingStep::new(training, (!same_update).then(|| update_rule(self.config, self.world)).as_ref())?
                .problem(present.profile)?;
        let other = (!same_update).then(|| trained.plan_update(present.profile)).transpose()?;
        let accumulation = trained.plan_accumulation(present.profile)?;
        let micro = match cap {
            Some(cap) => problem.plan_or_smallest(policy, cap)?,
            None => problem.plan(policy, None)?,
        };
        let other = other.as_ref().map(|update| OfUpdate { update, accumulation: accumulation.as_ref() });
        Ok(self.of(&micro, other.unwrap_or(present.of_update), present.profile))
    }

    fn of(&self, micro: &Plan, of_update: OfUpdate<'_>, profile: &DeviceProfile) -> Figures {
        let OfUpdate { update, accumulation } = of_update;
        let others: Vec<&Plan> = std::iter::once(update).chain(accumulation).collect();
        let account = MemoryAccount::new(micro, &others, profile, Buffers::default());
        // What the process holds anyway is the same on both sides, up to when it is measured.
        let domain = profile.tensor_domain();
        let same = account.rows.bytes(domain, MemoryPart::ProgramAndTokenizer);
        let accumulated = self.config.grad_accum;
        let seconds = PartSeconds::of(micro, update, accumulation, &profile.prices).of_update(accumulated);
        Figures {
            sources_and_arena_bytes: account.running_bytes(domain) - same,
            arena_bytes: micro.arena_bytes,
            seconds_per_token: seconds / (accumulated as f64 * (self.shape.batch * self.shape.seq_len) as f64),
        }
    }
}

/// A change: its flags, the settings with it, and the part of the activations that is left of the same policy.
struct Change {
    flags: String,
    config: TrainConfig,
    method: Method,
    shape: BatchShape,
    policy: Option<Policy>,
    activations: f64,
    /// Offload as much as can be, at these prices.
    spill: Option<SpillPrices>,
}

/// The plans of an update beside its micro-steps.
#[derive(Clone, Copy)]
pub(crate) struct OfUpdate<'a> {
    pub(crate) update: &'a Plan,
    /// What follows each micro-step, where micro-batches are added up apart.
    pub(crate) accumulation: Option<&'a Plan>,
}

/// The plan that alternatives are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Present<'a> {
    pub(crate) setting: Setting<'a>,
    pub(crate) profile: &'a DeviceProfile,
    /// What the plan answers: other policies are other answers.
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) parameters: &'a [Parameter],
    pub(crate) micro: &'a Plan,
    pub(crate) of_update: OfUpdate<'a>,
}

/// Whether both have one update.
fn same_parameters(a: &[Parameter], b: &[Parameter]) -> bool {
    let same = |(a, b): (&Parameter, &Parameter)| {
        a.name == b.name && a.ty == b.ty && a.has_working_copy == b.has_working_copy && a.decay == b.decay
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Alternatives to a plan, those that cost least first. None that saves nothing.
pub(crate) fn alternatives(present: &Present<'_>) -> Result<Vec<Alternative>, TrainError> {
    let &Present { setting, profile, problem, micro, of_update, .. } = present;
    let now = setting.of(micro, of_update, profile);
    let named = match &micro.policy {
        Policy::Budget(_) | Policy::Auto if micro.recomputed_steps().next().is_none() => Policy::None,
        policy => policy.clone(),
    };
    let offloads = micro.copy_steps().next().is_some();
    let figures = |change: &Change| {
        let changed = Setting { config: &change.config, method: &change.method, shape: change.shape, ..setting };
        let smaller = || Some((now.arena_bytes as f64 * change.activations) as usize);
        match (change.spill, &change.policy, &named) {
            (Some(spill), _, _) => {
                let micro = problem.smallest_offloading(&named, spill)?;
                Ok(setting.of(&micro, of_update, &with_spill(profile.clone(), Some(spill))))
            }
            (None, Some(policy), _) => Ok(setting.of(&problem.plan(policy, None)?, of_update, profile)),
            (None, None, Policy::Budget(_) | Policy::Auto) => changed.figures(present, &Policy::Auto, smaller()),
            (None, None, policy) if offloads => changed.figures(present, policy, smaller()),
            (None, None, policy) => changed.figures(present, policy, None),
        }
    };
    let figured = |change: Change| {
        let then = match figures(&change) {
            // Half of what offloading leaves may be less than there can be.
            Err(TrainError::Compile(CompileError::BudgetDoesNotFit { .. })) => return Ok(None),
            figures => figures?,
        };
        let saves_bytes = now.sources_and_arena_bytes.saturating_sub(then.sources_and_arena_bytes);
        let costs_percent = 100.0 * (then.seconds_per_token / now.seconds_per_token - 1.0);
        Ok(Some(Alternative { change: change.flags, saves_bytes, costs_percent }))
    };
    let found: Vec<Result<_, TrainError>> = in_parallel(changes(present), &figured);
    let mut found: Vec<Alternative> = found.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    found.retain(|alternative| alternative.saves_bytes > 0);
    found.sort_by(|a, b| a.costs_percent.total_cmp(&b.costs_percent));
    Ok(found)
}

/// The results of all items, in their order. Each is a compilation of its own; a machine with several cores makes them at
/// once, and where the system refuses more threads, the ones there are make them all.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, figured: &(dyn Fn(T) -> R + Sync)) -> Vec<R> {
    let helpers = all_threads().min(items.len()).saturating_sub(1);
    let (queue, done) = (Mutex::new(items.into_iter().enumerate()), Mutex::new(Vec::new()));
    // Nothing panics while it holds one of these, so neither is ever found broken.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((index, item)) = next() {
            let result = figured(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    thread::scope(|scope| {
        let started = (0..helpers).map(|_| thread::Builder::new().spawn_scoped(scope, work));
        // The first refusal ends it; nobody waits for a thread that is not there.
        let _helpers: Vec<_> = started.map_while(Result::ok).collect();
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A setting with its value, as it is given.
fn flag(key: &str, value: impl Display) -> String {
    format!("{} {value}", SettingName(key))
}

/// The adapters of a setting whose base could be held in fewer bits, and the flag that does it.
fn in_fewer_bits(setting: Setting<'_>) -> Option<(&LoraConfig, String)> {
    match setting.method {
        // Weights that the files hold quantised stay as they are.
        _ if setting.model.stored_quant().is_some() => None,
        Method::Lora(lora) => Some((lora, flag("method", "qlora"))),
        Method::Qlora(lora, Quant::Int8) => Some((lora, flag("quant", "nf4"))),
        Method::Qlora(_, Quant::Nf4) | Method::Full => None,
    }
}

fn changes(present: &Present<'_>) -> Vec<Change> {
    let Present { setting, micro, profile, .. } = *present;
    let Setting { config, method, shape, .. } = setting;
    let same = |flags: String| Change {
        flags,
        config: config.clone(),
        method: method.clone(),
        shape,
        policy: None,
        activations: 1.0,
        spill: None,
    };
    let mut changes = Vec::new();
    let shorter = (shape.seq_len / 2).next_multiple_of(16);
    if shorter < shape.seq_len {
        let activations = shorter as f64 / shape.seq_len as f64;
        let shape = BatchShape { seq_len: shorter, ..shape };
        changes.push(Change { shape, activations, ..same(flag("seq-len", shorter)) });
    }
    // Of more sequences than there are numbers, no other split makes the same update.
    if let Some(sequences) = config.grad_accum.checked_mul(shape.batch).filter(|_| shape.batch > 1) {
        let batch = shape.batch / 2;
        let accumulated = sequences.div_ceil(batch);
        let config = TrainConfig { batch_size: batch, grad_accum: accumulated, ..config.clone() };
        let activations = batch as f64 / shape.batch as f64;
        let flags = format!("{} {}", flag("batch-size", batch), flag("grad-accum", accumulated));
        changes.push(Change { config, shape: BatchShape { batch, ..shape }, activations, ..same(flags) });
    }
    if let Some(lora) = method.adapter().filter(|lora| lora.rank > 1) {
        let halved = LoraConfig { rank: lora.rank / 2, ..lora.clone() };
        let method = match method {
            Method::Qlora(_, quant) => Method::Qlora(halved, *quant),
            Method::Lora(_) | Method::Full => Method::Lora(halved),
        };
        changes.push(Change { method, ..same(flag("rank", lora.rank / 2)) });
    }
    if let Some((lora, flags)) = in_fewer_bits(setting) {
        let config = TrainConfig { method: MethodKind::Qlora, quant: Some(QuantKind::Nf4), ..config.clone() };
        let method = Method::Qlora(lora.clone(), Quant::Nf4);
        changes.push(Change { config, method, ..same(flags) });
    }
    if config.method == MethodKind::Full {
        let alpha = 2.0 * config.rank as f32;
        let lora = LoraConfig { rank: config.rank, alpha, ..LoraConfig::default() };
        let config = TrainConfig { method: MethodKind::Lora, ..config.clone() };
        changes.push(Change { config, method: Method::Lora(lora), ..same(flag("method", "lora")) });
    }
    if config.number_format() == Precision::F32 {
        let config = TrainConfig { precision: Precision::Bf16.into(), ..config.clone() };
        changes.push(Change { config, activations: 0.5, ..same(flag("precision", "bf16")) });
    }
    if micro.policy == Policy::None || (micro.policy != Policy::Full && micro.recomputed_steps().next().is_none()) {
        changes.push(Change { policy: Some(Policy::Full), ..same(flag("checkpointing", "full")) });
        let bytes = micro.activation_bytes() / 2;
        let policy = Policy::Budget(bytes);
        let size = ByteSize(bytes.next_multiple_of(1 << 20));
        let flags = flag("checkpointing", format_args!("budget:{size}"));
        changes.push(Change { policy: Some(policy), ..same(flags) });
    }
    if profile.prices.spill.is_none() && config.device == DeviceName::Cpu {
        // No folder is named yet, so no disk was measured; a card takes none.
        changes.push(Change { spill: Some(SpillPrices::nominal()), ..same(flag("offload", "DIR")) });
    }
    changes
}

/// A refusal for want of memory, with the alternatives to the smallest plan; any other error as it is.
pub(crate) fn with_alternatives(error: TrainError, setting: Setting<'_>, profile: &DeviceProfile) -> TrainError {
    let (limited, budget) = match &error {
        // Only where the arena lies would other plans take less.
        TrainError::DoesNotFit { domain, .. } if *domain == profile.tensor_domain() => (true, None),
        TrainError::Compile(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes }) => {
            (false, Some((*budget_bytes, *smallest_bytes)))
        }
        _ => return error,
    };
    // What cannot be planned has no alternatives to name; the refusal itself stands.
    let found = to_smallest(setting, budget.map(|(_, smallest)| smallest), profile).unwrap_or_default();
    match (error, budget) {
        (TrainError::DoesNotFit { domain, needed_bytes, limit_bytes, whose, .. }, _) if limited => {
            TrainError::DoesNotFit { domain, needed_bytes, limit_bytes, whose, alternatives: found }
        }
        (_, Some((budget_bytes, smallest_bytes))) => {
            TrainError::BudgetTooSmall { budget_bytes, smallest_bytes, alternatives: found }
        }
        (error, None) => error,
    }
}

/// Alternatives to the smallest plan of a setting: of its policy, or under the smallest budget.
fn to_smallest(
    setting: Setting<'_>,
    budget: Option<usize>,
    profile: &DeviceProfile,
) -> Result<Vec<Alternative>, TrainError> {
    let (problem, trained) = setting.step()?.problem(profile)?;
    let policy = match budget {
        Some(bytes) => Policy::Budget(bytes),
        None => setting.config.checkpointing.clone(),
    };
    let (micro, update) = (&problem.plan_or_smallest(&policy, 0)?, &trained.plan_update(profile)?);
    let accumulation = trained.plan_accumulation(profile)?;
    let of_update = OfUpdate { update, accumulation: accumulation.as_ref() };
    alternatives(&Present { setting, profile, problem: &problem, parameters: &trained.parameters, micro, of_update })
}
