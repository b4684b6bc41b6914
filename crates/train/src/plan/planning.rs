//! Compiles the graphs of a run within the memory it may use.
//!
//! Every kind of memory has a limit of its own: the host's is the setting `memory`, or what the machine has; a device with
//! memory of its own has that. From the limit where the arena lies goes everything else that lies there, and what is left
//! caps the arena. Since compiling itself takes memory, the account is made afterwards and the cap tightened by what it
//! overshoots. Invariant: the account of a plan that is returned is within all limits.

use crate::plan::available::available_bytes;
use crate::plan::buckets::{BucketPlan, LengthBucket};
use crate::plan::limit_owner::LimitOwner;
use crate::plan::memory;
use crate::plan::memory::Buffers;
use crate::plan::placement::{TrainedPlaces, pinned};
use crate::plan::process_memory::resident_bytes;
use crate::plan::setting::Setting;
use crate::{MemoryAccount, TrainConfig, TrainError};
use remat_compiler::{CompileError, Pinned, Problem, compile_or_smallest};
use remat_ir::Graph;
use remat_plan::{ByteSize, DeviceProfile, MemoryDomain, Plan, Policy};
use remat_step::{Trained, TrainingStep};
use std::collections::HashSet;

/// How often a plan is made anew because the account overshot.
const ATTEMPTS: usize = 4;

/// A run's plans and what they need.
pub(crate) struct PlannedStep {
    pub(crate) micro: Plan,
    pub(crate) update: Plan,
    /// What follows each micro-step, where micro-batches are added up apart.
    pub(crate) accumulation: Option<Plan>,
    /// Of the held-out rows, if there are any.
    pub(crate) evaluation: Option<Plan>,
    /// Of the texts that are sampled, if there are any: of a prompt's chunk and of one token.
    pub(crate) generation: Vec<Plan>,
    /// Of the micro-batches that are shorter, shortest first.
    pub(crate) shorter: Vec<Plan>,
    pub(crate) account: MemoryAccount,
    pub(crate) trained: Trained,
}

/// How much one kind of memory may hold at most, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How much.
    pub bytes: usize,
    /// Who says so.
    pub whose: LimitOwner,
}

/// The limit of each kind of memory that has one. A disk without one refuses by itself: files are reserved before the first
/// step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    host: Option<Limit>,
    device: Option<Limit>,
    disk: Option<Limit>,
}

impl Limits {
    /// Of the settings and of a device of this profile.
    pub(crate) fn of(config: &TrainConfig, profile: &DeviceProfile) -> Self {
        let device = profile.own_memory_bytes.map(|bytes| Limit { bytes, whose: LimitOwner::Device });
        let disk = config.max_memory.and_then(|limits| limits.disk);
        let disk = disk.map(|ByteSize(bytes)| Limit { bytes, whose: LimitOwner::DiskSetting });
        Limits { host: Limit::of_host(config), device, disk }
    }

    /// The limit of one kind of memory.
    pub fn in_domain(self, domain: MemoryDomain) -> Option<Limit> {
        match domain {
            MemoryDomain::Host => self.host,
            MemoryDomain::Device => self.device,
            MemoryDomain::Disk => self.disk,
        }
    }

    /// The same with another limit of one kind of memory.
    pub(crate) fn with(self, domain: MemoryDomain, limit: Limit) -> Self {
        match domain {
            MemoryDomain::Host => Limits { host: Some(limit), ..self },
            MemoryDomain::Device => Limits { device: Some(limit), ..self },
            MemoryDomain::Disk => Limits { disk: Some(limit), ..self },
        }
    }

    /// Refuses what does not fit where the arena does not lie: no other plan would change that.
    pub(crate) fn check_beside_arena(self, account: &MemoryAccount, profile: &DeviceProfile) -> Result<(), TrainError> {
        for domain in MemoryDomain::ALL.into_iter().filter(|&domain| domain != profile.tensor_domain()) {
            let needed_bytes = account.peak_bytes(domain);
            if let Some(limit) = self.in_domain(domain).filter(|limit| needed_bytes > limit.bytes) {
                return Err(limit.refuse(domain, needed_bytes));
            }
        }
        Ok(())
    }
}

impl Limit {
    /// Of the settings; of the machine where they set none and it tells.
    fn of_host(config: &TrainConfig) -> Option<Limit> {
        if let Some(ByteSize(bytes)) = config.memory {
            return Some(Limit { bytes, whose: LimitOwner::Setting });
        }
        if let Some(ByteSize(bytes)) = config.max_memory.and_then(|limits| limits.host) {
            return Some(Limit { bytes, whose: LimitOwner::HostSetting });
        }
        let available = available_bytes();
        let of_machine = |available: u64| Limit { bytes: available as usize, whose: LimitOwner::Machine };
        available.map(|available| of_machine(available + resident_bytes()))
    }

    pub(crate) fn refuse(self, domain: MemoryDomain, needed_bytes: usize) -> TrainError {
        let (limit_bytes, whose) = (self.bytes, self.whose);
        TrainError::DoesNotFit { domain, needed_bytes, limit_bytes, whose, alternatives: Vec::new() }
    }
}

impl PlannedStep {
    /// All plans but that of the longest micro-step.
    pub(crate) fn others(&self) -> Vec<&Plan> {
        let of_update = std::iter::once(&self.update).chain(&self.accumulation);
        of_update.chain(&self.evaluation).chain(&self.generation).chain(&self.shorter).collect()
    }

    /// The graphs of all plans.
    pub(crate) fn graphs(&self) -> Vec<&Graph> {
        std::iter::once(&self.micro).chain(self.others()).map(|plan| &*plan.graph).collect()
    }

    /// Names of the weights and states that are off memory.
    pub(crate) fn names_off_memory(&self) -> HashSet<String> {
        let names =
            |plan: &Plan| -> Vec<String> { plan.spilled.iter().map(|&id| plan.graph.value(id).name.clone()).collect() };
        std::iter::once(&self.micro).chain(self.others()).flat_map(names).collect()
    }

    /// Steps of all plans together.
    pub(crate) fn steps(&self) -> usize {
        self.micro.steps.len() + self.others().iter().map(|plan| plan.steps.len()).sum::<usize>()
    }

    /// The plan of each bucket.
    pub(crate) fn bucket_plans(&self, buckets: &[LengthBucket], profile: &DeviceProfile) -> Vec<BucketPlan> {
        let plans = self.shorter.iter().chain(std::iter::once(&self.micro));
        buckets.iter().zip(plans).map(|(&bucket, plan)| BucketPlan::of(bucket, plan, profile)).collect()
    }
}

/// What is planned beside the longest micro-step and the update.
#[derive(Debug, Clone, Default)]
pub(crate) struct OtherGraphs {
    /// Micro-steps that are shorter, the shortest first.
    pub(crate) shorter: Vec<Graph>,
    /// The loss of the held-out rows.
    pub(crate) evaluation: Option<Graph>,
    /// Samples: of a prompt's chunk and of one token.
    pub(crate) generation: Vec<Graph>,
}

/// Forward and backward of a micro-step, ready to plan, and what they train.
pub(crate) struct MicroStepProblem<'a> {
    pub(crate) problem: Problem<'a>,
    pub(crate) trained: Trained,
    /// Weights whose place is given.
    pub(crate) pinned: Pinned,
    /// Trained parameters whose place is.
    pub(crate) places: TrainedPlaces,
}

impl<'a> MicroStepProblem<'a> {
    /// Of a setting's step.
    ///
    /// # Errors
    /// A step that cannot be planned, a map of modules that cannot be followed.
    pub(crate) fn of(step: TrainingStep, setting: Setting<'_>, profile: &'a DeviceProfile) -> Result<Self, TrainError> {
        let (problem, trained) = step.problem(profile)?;
        let (pinned, places) = pinned(setting, problem.graph())?;
        Ok(MicroStepProblem { problem, trained, pinned, places })
    }
}

/// The plans of the micro-step, the longest and shorter ones, whose account is within the limits. The longest shapes the
/// arena, and the shorter ones are the fastest inside it. A refusal names the account of the smallest plan, and where that is
/// the limit, that plan is the one that is taken.
pub(crate) fn fitting(
    (problem, shorter): (&Problem<'_>, &[Graph]),
    others: &[&Plan],
    policy: &Policy,
    profile: &DeviceProfile,
    buffers: Buffers,
    limits: Limits,
) -> Result<(Plan, Vec<Plan>, MemoryAccount), TrainError> {
    let domain = profile.tensor_domain();
    let with_shorter = |micro: Plan| -> Result<_, TrainError> {
        let arena_bytes = memory::largest_arena(&micro, others);
        let within = |graph: &Graph| compile_or_smallest(graph.clone(), policy, profile, arena_bytes);
        let shorter = shorter.iter().map(within).collect::<Result<Vec<Plan>, CompileError>>()?;
        let all: Vec<&Plan> = others.iter().copied().chain(&shorter).collect();
        let account = MemoryAccount::new(&micro, &all, profile, buffers);
        limits.check_beside_arena(&account, profile)?;
        Ok((micro, shorter, account))
    };
    let Some(limit) = limits.in_domain(domain) else { return with_shorter(problem.plan(policy, None)?) };
    let graphs: Vec<&Graph> =
        std::iter::once(problem.graph()).chain(others.iter().map(|plan| &*plan.graph)).chain(shorter).collect();
    let mut rest = MemoryAccount::beside_arena(&graphs, profile, buffers);
    let least = others.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0);
    let mut smallest = None;
    for _ in 0..ATTEMPTS {
        let Some(cap) = limit.bytes.checked_sub(rest).filter(|&cap| cap >= least) else { break };
        let micro = problem.plan_or_smallest(policy, cap)?;
        if micro.arena_bytes > cap {
            // Where values may leave the arena, what is tried for a cap depends on it.
            smallest = Some(micro).filter(|_| profile.prices.spill.is_none());
            break;
        }
        let (micro, shorter, account) = with_shorter(micro)?;
        let needed = account.peak_bytes(domain);
        let Some(excess) = needed.checked_sub(limit.bytes).filter(|&excess| excess > 0) else {
            return Ok((micro, shorter, account));
        };
        // What is there beside this arena, and again what compiling added: the next attempt touches new pages too.
        let beside = needed.saturating_sub(memory::largest_arena(&micro, others));
        rest = rest.max(beside).saturating_add(excess);
    }
    let smallest = match smallest {
        Some(micro) => micro,
        None => problem.plan_or_smallest(policy, 0)?,
    };
    let smallest = with_shorter(smallest)?;
    let needed = smallest.2.peak_bytes(domain);
    if needed <= limit.bytes { Ok(smallest) } else { Err(limit.refuse(domain, needed)) }
}
